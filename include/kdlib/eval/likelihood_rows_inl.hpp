// SPDX-License-Identifier: Apache-2.0
// Bodies of log_likelihood.hpp that do not depend on a model.
#ifndef KDLIB_EVAL_LIKELIHOOD_ROWS_INL_HPP
#define KDLIB_EVAL_LIKELIHOOD_ROWS_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/eval/log_likelihood.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC LikelihoodRows likelihood_rows(const ScoredText& text, std::int64_t context) {
  require<InputError>(!text.context.empty(),
                      "[log_likelihoods] a text has an empty context: put the token that begins every text there");
  const auto scored = static_cast<std::int64_t>(text.continuation.size());
  require<InputError>(scored <= context, "[log_likelihoods] a continuation has ", scored, " tokens; the context holds ",
                      context);
  LikelihoodRows rows;
  rows.ids = text.context;
  rows.ids.insert(rows.ids.end(), text.continuation.begin(), text.continuation.end());
  if (const auto size = static_cast<std::int64_t>(rows.ids.size()); size - 1 > context)
    rows.ids.erase(rows.ids.begin(), rows.ids.end() - (context + 1));
  rows.first = rows.inputs() - scored;
  return rows;
}

KDLIB_FUNC std::int64_t common_beginning(const std::vector<LikelihoodRows>& texts) {
  std::int64_t common = texts.empty() ? 0 : texts.front().inputs();
  for (const LikelihoodRows& text : texts) {
    common = std::min(common, text.inputs());
    const auto difference = std::mismatch(text.ids.begin(), text.ids.begin() + common, texts.front().ids.begin());
    common = difference.first - text.ids.begin();
  }
  return common;
}

}  // namespace detail

KDLIB_FUNC std::vector<RollingWindow> rolling_windows(std::span<const std::int32_t> ids, std::int32_t first_token,
                                                      std::int64_t length) {
  require<ConfigError>(length >= 1, "[rolling_windows] length is ", length, "; it must be 1 or more");
  std::vector<RollingWindow> windows;
  const auto total = static_cast<std::int64_t>(ids.size());
  for (std::int64_t begin = 0; begin < total;) {
    const std::int64_t end = std::min(total, begin + length);
    RollingWindow w;
    w.targets.assign(ids.begin() + begin, ids.begin() + end);
    const std::int64_t from =
        begin == 0 ? 0 : std::max<std::int64_t>(0, end - length - 1);  // a later window has `length` inputs
    w.input.reserve(static_cast<std::size_t>(end - from));
    if (begin == 0) w.input.push_back(first_token);
    w.input.insert(w.input.end(), ids.begin() + from, ids.begin() + (end - 1));
    windows.push_back(std::move(w));
    begin = end;
  }
  return windows;
}

KDLIB_NAMESPACE_END

#endif
