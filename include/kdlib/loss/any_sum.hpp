// SPDX-License-Identifier: Apache-2.0
// A weighted sum of losses that is known at run time only, as one loss of the row engine: programs compile it once and
// take every sum that a user writes.
#ifndef KDLIB_LOSS_ANY_SUM_HPP
#define KDLIB_LOSS_ANY_SUM_HPP

#include <span>

#include "kdlib/loss/any_loss.hpp"
#include "kdlib/loss/mixes.hpp"

KDLIB_NAMESPACE_BEGIN

/// The sum of up to 8 terms: value and gradient are those of the Sum of the same terms, to rounding. `Needs` says what
/// targets it reads (LossNeeds); terms that need more are refused. It reads labels always.
///
/// Terms of one temperature are merged into one of a few kinds of mixes (mixes.hpp), and the engine walks the mixes one
/// after the other. Which terms a mix has is asked per entry by branches that go the same way for the whole row. The
/// cost beside the Sum of the same terms is measured in bench_losses.
/// Trivially copyable: no memory of its own, no virtual call.
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
  /// ConfigError: no term or more than 8, a weight that is not finite, a loss that needs other targets.
  explicit AnySum(std::span<const AnyTerm> terms) {
    require<ConfigError>(!terms.empty(), "[AnySum] a sum needs at least one term");
    for (const AnyTerm& term : terms) add(term);
  }

  int terms() const { return count_; }
  const AnyTerm& term(int i) const { return terms_[i]; }

  /// f(1, mix) or f(weight, loss) for each part that is walked by itself.
  template <class F>
  KDLIB_HOST_DEVICE void for_each(F&& f) const;
  /// f(weight, loss) for each term as it was given: for texts.
  template <class F>
  void for_each_term(F&& f) const {
    for (int i = 0; i < count_; ++i) terms_[i].loss.visit([&](const auto& loss) { f(terms_[i].weight, loss); });
  }
  KDLIB_HOST_DEVICE bool has_temperature(double t) const {
    bool all = true;
    for_each([&](double, const auto& l) { all = all && temperature_of(l) == t; });
    return all;
  }

  // The parts of a row loss, as of a Sum: they say to engines what there may be. The CPU engine walks the mixes
  // instead.
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

/// ConfigError, naming the loss and what it reads, where targets that tell `have` are not enough for one of the terms.
void require_targets(LossNeeds have, std::span<const AnyTerm> terms);

/// Calls f(loss) with the loss of a list of terms: a lone divergence over the vocabulary (forward KL, reverse KL,
/// Jensen-Shannon) of weight 1 as its own type, everything else as the AnySum of the targets; answers what f does.
/// `Targets` is what the teacher gives: losses that need more are refused with a sentence, and f is compiled for what
/// can occur alone.
template <class Targets, class F>
auto with_loss(std::span<const AnyTerm> terms, F&& f);

KDLIB_NAMESPACE_END

#include "kdlib/loss/any_sum_inl.hpp"

#endif
