// SPDX-License-Identifier: Apache-2.0
// Bodies of log_likelihood.hpp.
#ifndef KDLIB_EVAL_LOG_LIKELIHOOD_INL_HPP
#define KDLIB_EVAL_LOG_LIKELIHOOD_INL_HPP

#include <algorithm>
#include <limits>
#include <numeric>

#include "kdlib/eval/log_likelihood.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class M>
std::int64_t likelihood_context(const M& model, std::int64_t wanted) {
  if (wanted > 0) return wanted;
  if constexpr (requires { model.config().context_length; }) {
    if (model.config().context_length > 0) return model.config().context_length;
  }
  return std::numeric_limits<std::int64_t>::max() - 1;
}

/// A text as the model sees it: `ids` without the last are run, and rows from `first` on predict ids[row + 1].
struct LikelihoodRows {
  std::vector<std::int32_t> ids;
  std::int64_t first = 0;
  std::int64_t inputs() const { return static_cast<std::int64_t>(ids.size()) - 1; }
};

LikelihoodRows likelihood_rows(const ScoredText& text, std::int64_t context);

/// What all inputs of a group begin with.
std::int64_t common_beginning(const std::vector<LikelihoodRows>& texts);

struct LikelihoodGroup {
  std::vector<LikelihoodRows> texts;
  std::int64_t common = 0, longest = 0;
};

/// One call of log_likelihoods.
template <class M>
class LikelihoodRun {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  using Cache = decltype(std::declval<const M&>().make_cache(std::int64_t{}, std::int64_t{}));

 public:
  LikelihoodRun(M& model, const LikelihoodSettings& settings) : model_(model), settings_(settings) {
    require<ConfigError>(settings.tokens >= 1, "[log_likelihoods] tokens is ", settings.tokens,
                         "; it must be 1 or more");
  }

  std::vector<std::vector<double>> run(std::span<const std::vector<ScoredText>> given) {
    const std::int64_t context = likelihood_context(model_, settings_.context_length);
    for (const std::vector<ScoredText>& texts : given) {
      LikelihoodGroup& group = groups_.emplace_back();
      for (const ScoredText& text : texts) group.texts.push_back(likelihood_rows(text, context));
      group.common = common_beginning(group.texts);
      for (const LikelihoodRows& text : group.texts) group.longest = std::max(group.longest, text.inputs());
      sums_.emplace_back(texts.size(), 0.0);
    }
    std::vector<std::size_t> order(groups_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [this](std::size_t a, std::size_t b) { return groups_[a].longest > groups_[b].longest; });
    for (std::size_t begin = 0; begin < order.size();) {
      const std::int64_t capacity =
          std::max<std::int64_t>(groups_[order[begin]].longest, 1);  // the longest comes first
      const auto count = static_cast<std::size_t>(std::max<std::int64_t>(1, settings_.tokens / capacity));
      const std::size_t end = std::min(order.size(), begin + count);
      score(std::span<const std::size_t>(order).subspan(begin, end - begin), capacity);
      begin = end;
      if (settings_.progress)
        settings_.progress(static_cast<std::int64_t>(end), static_cast<std::int64_t>(order.size()));
    }
    return std::move(sums_);
  }

 private:
  /// A part of one text: inputs [from, to) run in `slot`.
  struct Part {
    std::size_t group, text;
    std::int64_t from, to;
    std::int32_t slot;
  };

  void score(std::span<const std::size_t> batch, std::int64_t capacity) {
    Cache cache = model_.make_cache(static_cast<std::int64_t>(batch.size()), capacity);
    std::vector<Part> parts;
    std::size_t most = 0;
    for (std::size_t slot = 0; slot < batch.size(); ++slot) {
      const LikelihoodGroup& group = groups_[batch[slot]];
      most = std::max(most, group.texts.size());
      if (group.common > 0) parts.push_back({batch[slot], 0, 0, group.common, static_cast<std::int32_t>(slot)});
    }
    decode(cache, parts, true);
    for (std::size_t text = 0; text < most; ++text) {
      parts.clear();
      for (std::size_t slot = 0; slot < batch.size(); ++slot) {
        const LikelihoodGroup& group = groups_[batch[slot]];
        if (text >= group.texts.size() || group.texts[text].inputs() <= group.common) continue;
        cache.truncate(static_cast<std::int64_t>(slot), group.common);
        parts.push_back({batch[slot], text, group.common, group.texts[text].inputs(), static_cast<std::int32_t>(slot)});
      }
      decode(cache, parts, false);
    }
  }

  /// Runs the parts together and adds what their rows predict; the rows of a common part count for every text of its
  /// group.
  void decode(Cache& cache, const std::vector<Part>& parts, bool common) {
    if (parts.empty()) return;
    TokenBatch batch;
    std::vector<std::int32_t> slots;
    for (const Part& part : parts) {
      const std::vector<std::int32_t>& ids = groups_[part.group].texts[part.text].ids;
      batch.append(std::span<const std::int32_t>(ids).subspan(static_cast<std::size_t>(part.from),
                                                              static_cast<std::size_t>(part.to - part.from)));
      slots.push_back(part.slot);
    }
    const Tensor<T, D> hidden = model_.decode(cache, batch, slots);
    std::vector<std::int64_t> rows;
    std::vector<std::int32_t> labels;
    std::vector<double*> sums;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      const Part& part = parts[p];
      const LikelihoodGroup& group = groups_[part.group];
      for (std::size_t t = common ? 0 : part.text; t < (common ? group.texts.size() : part.text + 1); ++t)
        for (std::int64_t row = std::max(part.from, group.texts[t].first);
             row < std::min(part.to, group.texts[t].inputs()); ++row) {
          rows.push_back(batch.offsets[p] + row - part.from);
          labels.push_back(group.texts[t].ids[static_cast<std::size_t>(row + 1)]);
          sums.push_back(&sums_[part.group][t]);
        }
    }
    if (rows.empty()) return;
    const Tensor<T, D> picked = hidden_rows(hidden, rows);
    EvaluationSettings how;
    how.workspace_bytes = settings_.workspace_bytes;
    const std::vector<double> log_probs =
        row_log_probs(model_.head(), View<const T, D>(picked), std::span<const std::int32_t>(labels), how);
    for (std::size_t i = 0; i < log_probs.size(); ++i) *sums[i] += log_probs[i];
  }

  M& model_;
  const LikelihoodSettings& settings_;
  std::vector<LikelihoodGroup> groups_;
  std::vector<std::vector<double>> sums_;
};

}  // namespace detail

template <class M>
std::vector<std::vector<double>> log_likelihoods(M& model, std::span<const std::vector<ScoredText>> groups,
                                                 const LikelihoodSettings& settings) {
  return detail::LikelihoodRun<M>(model, settings).run(groups);
}

template <class M>
std::vector<double> rolling_log_likelihoods(M& model, std::span<const std::vector<std::int32_t>> texts,
                                            std::int32_t first_token, const LikelihoodSettings& settings) {
  const std::int64_t context = detail::likelihood_context(model, settings.context_length);
  std::vector<std::vector<ScoredText>> windows;
  std::vector<std::size_t> owner;
  for (std::size_t t = 0; t < texts.size(); ++t)
    for (RollingWindow& w : rolling_windows(texts[t], first_token, context)) {
      ScoredText
          text;  // the input's rows before the targets, and the targets: together they are the input and one token more
      const std::size_t before = w.input.size() + 1 - w.targets.size();
      text.context.assign(w.input.begin(), w.input.begin() + static_cast<std::ptrdiff_t>(before));
      text.continuation = std::move(w.targets);
      windows.push_back({std::move(text)});
      owner.push_back(t);
    }
  const std::vector<std::vector<double>> values =
      log_likelihoods(model, std::span<const std::vector<ScoredText>>(windows), settings);
  std::vector<double> sums(texts.size(), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) sums[owner[i]] += values[i][0];
  return sums;
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/eval/likelihood_rows_inl.hpp"
#endif

#endif
