// SPDX-License-Identifier: Apache-2.0
// A few fixed texts and questions that a model never trains on: what it forgets shows there first.
#ifndef KDLIB_RECIPE_CANARY_HPP
#define KDLIB_RECIPE_CANARY_HPP

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/rollout/generate.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// Lines of a canary file as ids.
struct CanaryLines {
  std::vector<std::vector<std::int32_t>> texts;    // of 2 ids or more
  std::vector<std::vector<std::int32_t>> prompts;  // as the model is asked
};

/// Reads JSON lines {"text": ...} and {"prompt": ...}. `ask` turns a question into a prompt's ids. FormatError with
/// file and line: a line that has neither, or both; a text of fewer than two tokens. InputError: no lines.
CanaryLines read_canary(const std::string& path, const Tokenizer& tokenizer,
                        const std::function<std::vector<std::int32_t>(std::string_view question)>& ask);

/// How questions are answered.
struct CanarySettings {
  std::int64_t max_new_tokens = 256;
  std::int64_t context_length = 0;  // 0: the model's
  std::vector<std::int32_t> stop_ids{};
  std::function<bool(std::span<const std::int32_t> text)> valid{};
};

/// What a model makes of canary lines. Numbers without lines of their kind are NaN.
struct CanaryReport {
  double loss = 0;    // mean over the texts' tokens of -log p
  double valid = 0;   // share of answers that end with a stop id and are valid
  double length = 0;  // mean tokens of an answer
  double repeat = 0;  // share of an answer's runs of four ids that occurred in it before
};

/// Share of the runs of four ids that stand in `text` a second time: 0 where it has fewer than five ids.
double repeated_fours(std::span<const std::int32_t> text);

/// Answers are the most probable tokens one by one.
template <class M>
CanaryReport evaluate_canary(M& model, const CanaryLines& lines, const CanarySettings& settings);

KDLIB_NAMESPACE_END

#include "kdlib/recipe/canary_body_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/canary_inl.hpp"
#endif

#endif
