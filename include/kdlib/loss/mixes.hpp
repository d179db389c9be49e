// SPDX-License-Identifier: Apache-2.0
// Mixes: sums of losses of one temperature whose terms are only known at run time. AnySum passes mixes to the row
// engine.
#ifndef KDLIB_LOSS_MIXES_HPP
#define KDLIB_LOSS_MIXES_HPP

#include "kdlib/loss/any_loss.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The kinds of mixes. A mix has the first kind that is enough for all its terms.
enum class MixKind {
  label,    // only functions of the label and of the normaliser
  student,  // also sums over the student's entries
  teacher,  // also divergences whose sum of derivatives is known after one sweep
  open,     // also divergences whose sum of derivatives needs a sweep
  adaptive  // AdaptiveKl alone, which needs a number of its own for each row
};

/// The weights of the terms, multiplied by T^2 if t_squared (not for AdaptiveKl, where the engine multiplies); 0: the
/// term is absent. A mix holds at most one loss of each type that has settings of its own.
struct MixTerms {
  float temperature = 1;
  MixKind kind = MixKind::label;
  bool empty = true;
  double cross_entropy = 0, z = 0, sampled_k2 = 0, sampled_k3 = 0, policy = 0, baseline = 0;  // of label and normaliser
  double negative_entropy = 0, uniform = 0;                                                   // terms of the student
  double forward = 0, reverse = 0, adaptive = 0;                                              // terms with the teacher
  double variation = 0, jensen = 0, skew_forward = 0, skew_reverse = 0;                       // terms of the kind open
  PolicyGradient policy_loss{};
  BaselinePolicyGradient baseline_loss{};
  AdaptiveKl adaptive_loss{};
  JensenShannon jensen_loss{};
  SkewForwardKl skew_forward_loss{};
  SkewReverseKl skew_reverse_loss{};

  /// Adds the loss to the mix and returns true, or returns false if its place is already taken.
  template <class L>
  bool take(double weight, const L& loss);

 private:
  template <class L>
  bool take_one(double& slot, L& place, double weight, const L& loss, MixKind with);
  bool take_weight(double& slot, double weight, MixKind with);
};

/// The parts that every mix has: those of the label and of the normaliser.
struct LabelMix : MixTerms {
  static constexpr bool reads_teacher_label = true;
  static constexpr Moments moments = {.student_entropy = true, .reverse_kl = true};

  KDLIB_HOST_DEVICE explicit LabelMix(const MixTerms& terms) : MixTerms(terms) {}

  /// What the present terms need. The static members say what any mix of this kind may need.
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

/// A mix without derivative_sum(): the engine sums the derivatives in a sweep over the row.
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
