// SPDX-License-Identifier: Apache-2.0
// A weighted sum of losses that is only known at run time, as one loss of the row engine. A program compiles AnySum
// once and accepts every sum that a user writes.
#ifndef KDLIB_LOSS_ANY_SUM_HPP
#define KDLIB_LOSS_ANY_SUM_HPP

#include <span>

#include "kdlib/loss/any_loss.hpp"
#include "kdlib/loss/mixes.hpp"

KDLIB_NAMESPACE_BEGIN

/// The sum of up to 8 terms. Value and gradient are those of the Sum of the same terms, except for rounding. `Needs`
/// says which targets the sum reads besides labels (LossNeeds); terms that need other targets are refused.
///
/// Terms of the same temperature are merged into mixes of a few kinds (mixes.hpp), and the engine computes one mix
/// after the other. For each entry, branches test which terms a mix has; the branches go the same way for the whole
/// row. bench_losses measures the cost compared with the Sum of the same terms.
/// AnySum is trivially copyable, without memory of its own or virtual calls.
template <LossNeeds Needs>
class AnySum {
 public:
  static constexpr int most_terms = 8;
  static constexpr bool is_sum = true;
  static constexpr bool walked_by_groups = true;
  static constexpr int leaves = most_terms;
  static constexpr bool reads_teacher = Needs == LossNeeds::vocabulary;
  static constexpr bool reads_teacher_label = Needs == LossNeeds::vocabulary || Needs == LossNeeds::sampled_tokens;
  static constexpr bool reads_support = Needs == LossNeeds::top_k;
  static constexpr bool reads_head_share = Needs == LossNeeds::vocabulary;
  static constexpr Moments moments = {.student_entropy = true, .reverse_kl = reads_teacher};

  AnySum() = default;
  /// ConfigError: there is no term or more than 8, a weight is not finite, or a loss needs other targets.
  explicit AnySum(std::span<const AnyTerm> terms) {
    require<ConfigError>(!terms.empty(), "[AnySum] a sum needs at least one term");
    for (const AnyTerm& term : terms) add(term);
  }

  int terms() const { return count_; }
  const AnyTerm& term(int i) const { return terms_[i]; }

  /// Calls f(1, mix) or f(weight, loss) for each part that the engine computes by itself.
  template <class F>
  KDLIB_HOST_DEVICE void for_each(F&& f) const;
  /// Calls f(weight, loss) for each term as it was given, for printing.
  template <class F>
  void for_each_term(F&& f) const {
    for (int i = 0; i < count_; ++i) terms_[i].loss.visit([&](const auto& loss) { f(terms_[i].weight, loss); });
  }
  KDLIB_HOST_DEVICE bool has_temperature(double t) const {
    bool all = true;
    for_each([&](double, const auto& l) { all = all && temperature_of(l) == t; });
    return all;
  }

  // The parts of a row loss, as in Sum. They tell engines which parts the loss may have. The CPU engine computes the
  // mixes instead of calling them.
  template <template <class> class E, class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics& row, const E<P>& x) const;
  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const;
  KDLIB_HOST_DEVICE Dual at_normaliser(const RowStatistics& row) const;
  KDLIB_HOST_DEVICE bool clamped(const LabelPoint& point) const;

 private:
  void add(const AnyTerm& term);
  detail::MixTerms& new_mix(float temperature);

  AnyTerm terms_[most_terms];
  detail::MixTerms mixes_[most_terms];
  int count_ = 0, mix_count_ = 0;
};

/// ConfigError: targets of kind `have` are not enough for one of the terms; the message names the loss and what the
/// loss reads.
void require_targets(LossNeeds have, std::span<const AnyTerm> terms);

/// Returns f(loss) for the loss of a list of terms. If the targets hold whole distributions, a single term of weight 1
/// that is a forward KL, reverse KL or Jensen-Shannon divergence is passed as its own type (Jensen-Shannon with beta =
/// 0 or 1 as the KL divergence that it equals). Everything else is passed as AnySum. `Targets` is the type of the
/// teacher's targets; f is only compiled for losses that can occur with it. ConfigError: a loss needs other targets.
template <class Targets, class F>
auto with_loss(std::span<const AnyTerm> terms, F&& f);

KDLIB_NAMESPACE_END

#include "kdlib/loss/any_sum_inl.hpp"

#endif
