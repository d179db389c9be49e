// SPDX-License-Identifier: Apache-2.0
// Bodies of mixes.hpp.
#ifndef KDLIB_LOSS_MIXES_INL_HPP
#define KDLIB_LOSS_MIXES_INL_HPP

#include "kdlib/loss/mixes.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline bool MixTerms::take_weight(double& slot, double weight, MixKind with) {
  slot += weight;
  kind = kind < with ? with : kind;
  return true;
}

template <class L>
bool MixTerms::take_one(double& slot, L& place, double weight, const L& loss, MixKind with) {
  if (slot != 0) return false;
  place = loss;
  return take_weight(slot, weight, with);
}

template <class L>
bool MixTerms::take(double weight, const L& loss) {
  static_assert(!reads_support<L>, "losses on the top-k are walked by themselves");
  if constexpr (std::is_same_v<L, AdaptiveKl>) {  // alone in its mix, and the engine multiplies by its T^2
    if (!empty) return false;
    empty = false;
    return take_one(adaptive, adaptive_loss, weight, loss, MixKind::adaptive);
  }
  if (kind == MixKind::adaptive) return false;
  empty = false;
  const double w = weight * factor_of(loss);
  if constexpr (std::is_same_v<L, CrossEntropy>) return take_weight(cross_entropy, w, MixKind::label);
  else if constexpr (std::is_same_v<L, ZLoss>) return take_weight(z, w, MixKind::label);
  else if constexpr (std::is_same_v<L, SampledKl<KlEstimator::k2>>) return take_weight(sampled_k2, w, MixKind::label);
  else if constexpr (std::is_same_v<L, SampledKl<KlEstimator::k3>>) return take_weight(sampled_k3, w, MixKind::label);
  else if constexpr (std::is_same_v<L, PolicyGradient>) return take_one(policy, policy_loss, w, loss, MixKind::label);
  else if constexpr (std::is_same_v<L, BaselinePolicyGradient>)
    return take_one(baseline, baseline_loss, w, loss, MixKind::label);
  else if constexpr (std::is_same_v<L, NegativeEntropy>) return take_weight(negative_entropy, w, MixKind::student);
  else if constexpr (std::is_same_v<L, UniformCrossEntropy>) return take_weight(uniform, w, MixKind::student);
  else if constexpr (std::is_same_v<L, ForwardKl>) return take_weight(forward, w, MixKind::teacher);
  else if constexpr (std::is_same_v<L, ReverseKl>) return take_weight(reverse, w, MixKind::teacher);
  else if constexpr (std::is_same_v<L, TotalVariation>) return take_weight(variation, w, MixKind::open);
  else if constexpr (std::is_same_v<L, JensenShannon>) return take_one(jensen, jensen_loss, w, loss, MixKind::open);
  else if constexpr (std::is_same_v<L, SkewForwardKl>)
    return take_one(skew_forward, skew_forward_loss, w, loss, MixKind::open);
  else if constexpr (std::is_same_v<L, SkewReverseKl>)
    return take_one(skew_reverse, skew_reverse_loss, w, loss, MixKind::open);
  else return false;
}

KDLIB_HOST_DEVICE inline Dual LabelMix::at_label(const LabelPoint& point) const {
  Dual total;
  if (cross_entropy != 0) total = total + cross_entropy * CrossEntropy{}.at_label(point);
  if (sampled_k2 != 0) total = total + sampled_k2 * SampledKl<KlEstimator::k2>{}.at_label(point);
  if (sampled_k3 != 0) total = total + sampled_k3 * SampledKl<KlEstimator::k3>{}.at_label(point);
  if (policy != 0) total = total + policy * policy_loss.at_label(point);
  if (baseline != 0) total = total + baseline * baseline_loss.at_label(point);
  return total;
}

template <class P>
KDLIB_INLINE EntryLoss<P> OpenMix::entry(const RowStatistics& row, const Entry<P>& x) const {
  EntryLoss<P> total{P(0), P(0)};
  if (forward != 0) add(forward, ForwardKl{}.entry(row, x), total);
  if (reverse != 0) add(reverse, ReverseKl{}.entry(row, x), total);
  if (negative_entropy != 0) add(negative_entropy, NegativeEntropy{}.entry(row, x), total);
  if (uniform != 0) add(uniform, UniformCrossEntropy{}.entry(row, x), total);
  if (variation != 0) add(variation, TotalVariation{}.entry(row, x), total);
  if (jensen != 0) add(jensen, jensen_loss.entry(row, x), total);
  if (skew_forward != 0) add(skew_forward, skew_forward_loss.entry(row, x), total);
  if (skew_reverse != 0) add(skew_reverse, skew_reverse_loss.entry(row, x), total);
  return total;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
