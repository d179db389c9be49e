// SPDX-License-Identifier: Apache-2.0
// Sums of losses of one temperature whose members are known at run time: what AnySum hands to the row engine.
#ifndef KDLIB_LOSS_MIXES_HPP
#define KDLIB_LOSS_MIXES_HPP

#include "kdlib/loss/any_loss.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What walks a mix: the least that its terms need.
enum class MixKind {
  label,    // functions of the label and of the normaliser
  student,  // and sums over the student's entries
  teacher,  // and divergences whose sum of derivatives is known after the first sweep
  open,     // and those whose sum of derivatives takes a sweep
  adaptive  // AdaptiveKl, which has a number of its own in each row
};

/// Weights of the terms, T^2 included; 0: not there. Of losses with settings of their own there is one of each.
struct MixTerms {
  float temperature = 1;
  MixKind kind = MixKind::label;
  bool empty = true;
  double cross_entropy = 0, z = 0, sampled_k2 = 0, sampled_k3 = 0, policy = 0, baseline = 0;  // of the label
  double negative_entropy = 0, uniform = 0;                                                   // of the student
  double forward = 0, reverse = 0, adaptive = 0;                                              // with the teacher
  double variation = 0, jensen = 0, skew_forward = 0, skew_reverse = 0;                       // open
  PolicyGradient policy_loss{};
  BaselinePolicyGradient baseline_loss{};
  AdaptiveKl adaptive_loss{};
  JensenShannon jensen_loss{};
  SkewForwardKl skew_forward_loss{};
  SkewReverseKl skew_reverse_loss{};

  /// Takes the loss in and says so, or false where its place is taken by one with other settings.
  template <class L>
  bool take(double weight, const L& loss);

 private:
  template <class L>
  bool take_one(double& slot, L& place, double weight, const L& loss, MixKind with);
  bool take_weight(double& slot, double weight, MixKind with);
};

/// The parts that every mix has: of the label and of the normaliser.
struct LabelMix : MixTerms {
  static constexpr bool reads_teacher_label = true;
  static constexpr Moments moments = {.student_entropy = true, .reverse_kl = true};

  KDLIB_HOST_DEVICE explicit LabelMix(const MixTerms& terms) : MixTerms(terms) {}

  /// Of these terms; the static members say what terms of this kind may need.
  KDLIB_HOST_DEVICE bool needs_moments() const { return negative_entropy != 0 || reverse != 0 || baseline != 0; }
  KDLIB_HOST_DEVICE bool needs_teacher() const { return kind >= MixKind::teacher || reads_sampled_tokens(); }
  KDLIB_HOST_DEVICE bool reads_sampled_tokens() const {
    return sampled_k2 != 0 || sampled_k3 != 0 || policy != 0 || baseline != 0;
  }
  bool corrects_by_ratio() const {
    return sampled_k2 == 0 && sampled_k3 == 0 && (policy == 0 || policy_loss.corrects_by_ratio()) &&
           (baseline == 0 || baseline_loss.corrects_by_ratio());
  }
  KDLIB_HOST_DEVICE bool has_limits() const { return policy != 0 || baseline != 0; }

  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const;
  KDLIB_HOST_DEVICE bool clamped(const LabelPoint& point) const {
    return (policy != 0 && policy_loss.clamped(point)) || (baseline != 0 && baseline_loss.clamped(point));
  }
  KDLIB_HOST_DEVICE Dual at_normaliser(const RowStatistics& row) const {
    return {z * row.student_lse * row.student_lse, 2 * z * row.student_lse};
  }
  void validate() const;
  void check_inputs(const RowInputs& rows) const;

 protected:
  template <class P>
  KDLIB_INLINE static void add(double weight, const EntryLoss<P>& e, EntryLoss<P>& total) {
    total.value = fma(P(weight), e.value, total.value);
    total.derivative = fma(P(weight), e.derivative, total.derivative);
  }
};

struct StudentMix : LabelMix {
  using LabelMix::LabelMix;

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics& row, const StudentEntry<P>& x) const {
    EntryLoss<P> total{P(0), P(0)};
    add_student(row, x, total);
    return total;
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics& row) const {
    return (negative_entropy != 0 ? -negative_entropy * row.student_entropy : 0) - uniform;
  }

 protected:
  template <class P>
  KDLIB_INLINE void add_student(const RowStatistics& row, const StudentEntry<P>& x, EntryLoss<P>& total) const {
    if (negative_entropy != 0) add(negative_entropy, NegativeEntropy{}.entry(row, x), total);
    if (uniform != 0) add(uniform, UniformCrossEntropy{}.entry(row, x), total);
  }
};

struct TeacherMix : StudentMix {
  static constexpr bool reads_teacher = true;
  using StudentMix::StudentMix;

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics& row, const Entry<P>& x) const {
    EntryLoss<P> total{P(0), P(0)};
    add_teacher(row, x, total);
    return total;
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics& row) const {
    return StudentMix::derivative_sum(row) + (reverse != 0 ? reverse * row.reverse_kl : 0);
  }

 protected:
  template <class P>
  KDLIB_INLINE void add_teacher(const RowStatistics& row, const Entry<P>& x, EntryLoss<P>& total) const {
    if (forward != 0) add(forward, ForwardKl{}.entry(row, x), total);
    if (reverse != 0) add(reverse, ReverseKl{}.entry(row, x), total);
    add_student(row, x, total);
  }
};

/// Without derivative_sum(): the engine sums the derivatives in a sweep.
struct OpenMix : LabelMix {
  static constexpr bool reads_teacher = true;
  using LabelMix::LabelMix;

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics& row, const Entry<P>& x) const;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/loss/mixes_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/loss/mix_checks_inl.hpp"
#endif

#endif
