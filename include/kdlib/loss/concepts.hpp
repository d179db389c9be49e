// SPDX-License-Identifier: Apache-2.0
// The form of a row loss, of its inputs and of its results. Losses, row engines, teachers and trainers share these
// definitions. A row is one predicted token: the logits over the vocabulary at one place of a text.
//
// Notation: p_t and p_s are the distributions of teacher and student in one row, over V vocabulary entries; z are
// logits, T is the temperature, and D = log p_s - log p_t.
//
// A ROW LOSS is an aggregate with the following parts. All parts are optional, but at least one of the last four is
// needed:
//   float temperature = 1;          both models are taken at T
//   bool t_squared = true;          value and gradient are multiplied by T^2
//   entry(row, x) -> EntryLoss<P>   a sum over the vocabulary: f and h = df / d log p_s of one entry. Multiples of p_s
//                                   may be added to h (the softmax removes them): choose h = 0 where p_s = p_t
//   at_label(point) -> Dual         a function of log p_s(label): value and derivative
//   on_support(point) -> double     a function of log p_s on the teacher's top-k and of the mass outside; fills its
//                                   derivatives
//   at_normaliser(row) -> Dual      a function of the student's log-sum-exp: value and derivative
//
// Static constexpr members say what the loss needs: `reads_teacher` (p_t and D in entry), `reads_teacher_label`,
// `moments`. If the sum of h over a row is known from the statistics of the row, `derivative_sum(row)` returns that sum
// and saves a sweep over the row. The engine does everything else: softmax and its Jacobian, T, weights, masks, fusing
// with the head, metrics.
#ifndef KDLIB_LOSS_CONCEPTS_HPP
#define KDLIB_LOSS_CONCEPTS_HPP

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/core/math.hpp"
#include "kdlib/loss/targets.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The fields that most losses have, for their visit_fields() (core/fields.hpp).
constexpr FieldInfo temperature_field{"temperature", "", "> 0", "the logits of both models are divided by it"};
constexpr FieldInfo t_squared_field{"t_squared", "", "", "multiply value and gradient by temperature^2"};
}  // namespace detail

/// The value of a loss: a weighted sum over rows, and the sum of the weights. Only logging divides both.
struct LossSum {
  double sum = 0, weight = 0;

  double mean() const { return weight > 0 ? sum / weight : 0; }
  LossSum& operator+=(const LossSum& o) {
    sum += o.sum, weight += o.weight;
    return *this;
  }
};

/// Weighted sums of metrics over rows, at temperature 1 whatever temperature the loss has. Divide each sum by its
/// weight: `weight`, or `teacher_weight`, `label_weight` and so on for metrics that need the teacher's distribution,
/// labels and so on. If the targets do not hold what a metric needs, its weight is 0.
struct RowMetrics {
  double weight = 0, teacher_weight = 0, label_weight = 0, js_weight = 0, support_weight = 0, clamp_weight = 0,
         threshold_weight = 0;
  double student_entropy = 0;  // nats
  double teacher_entropy = 0;
  double forward_kl = 0;      // KL(teacher || student)
  double reverse_kl = 0;      // KL(student || teacher)
  double top1_agreement = 0;  // both models have the same argmax (lowest id on ties)
  double top5_overlap = 0;    // (number of common tokens in both top 5) / 5; if V < 5, V takes the place of 5
  double top5_contains = 0;   // the teacher's argmax is among the student's five largest
  double label_log_prob = 0;  // log p_s(label)
  double label_top1 = 0;      // the label is the student's argmax
  double label_rank = 0;      // 1 + number of entries that the student finds more probable than the label
  double js =
      0;  // Jensen-Shannon divergence, beta = 1/2, in [0, log 2]: on request, or where it is the loss; over js_weight
  // The next three are of losses on the teacher's top-k, at the temperature of the targets; divide by support_weight.
  double teacher_support_mass = 0, student_support_mass = 0;  // mass on the teacher's K tokens, in [0, 1]
  double tail_loss = 0;       // part of the loss from the mass outside the K tokens (TopKMass::tail)
  double clamped = 0;         // a limit of a sampled-token loss cut the row's ratio or advantage; over clamp_weight
  double skipped_blocks = 0;  // share of the gradient's blocks that gradient_threshold left out; over threshold_weight

  RowMetrics& operator+=(const RowMetrics& o);
};

/// Mean, standard deviation and range of one value over weighted rows. Adding the spreads of parts gives the spread of
/// all rows, except for rounding.
struct RowSpread {
  double weight = 0, mean = 0;
  double squares = 0;                                      // sum of weight * (value - mean)^2
  double least = std::numeric_limits<double>::infinity();  // smallest and largest value over rows of weight > 0
  double most = -std::numeric_limits<double>::infinity();

  void add(double value, double row_weight);
  RowSpread& operator+=(const RowSpread& o);
  double deviation() const { return weight > 0 ? std::sqrt(squares / weight) : 0; }
};

/// The result of a fused pass (head_loss.hpp).
struct HeadLossResult {
  LossSum loss;                    // sum of weight_r * value_r, and sum of weight_r; not multiplied by `scale`
  RowMetrics metrics;              // zeros unless asked for
  RowSpread kl;                    // of KL(teacher || student) at T = 1, with metrics; empty without teacher rows
  std::vector<double> row_values;  // [R] value_r, unweighted, on request; 0 for rows of weight 0

  HeadLossResult& operator+=(const HeadLossResult& o);
};

/// The inputs of rows besides logits. A span may be empty if no loss needs it.
struct RowInputs {
  std::span<const std::int32_t> labels{};  // [R] next token, in [0, V)
  std::span<const float> weights{};        // [R] >= 0; empty: all 1. Rows of weight 0 cost nothing and get gradient 0
  std::span<const float> behaviour_log_probs{};  // [R] log-probability under which the label was drawn
};

// ---- what a loss functor sees ---------------------------------------------------------------------------------------
//

/// Statistics of one row at the temperature of the loss. Fields that no term asked for are NaN.
struct RowStatistics {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  double temperature = 1;
  double columns = 0;                                   // V
  double student_lse = unknown, teacher_lse = unknown;  // log sum exp(z / T)
  double student_entropy = unknown, teacher_entropy = unknown;
  double forward_kl = unknown, reverse_kl = unknown;
  double head_share = unknown;  // weight of the forward part in AdaptiveKl, for losses with `head_mass`
};

/// The sums of the first sweep over a row that a loss needs besides both log-sum-exps: `static constexpr Moments
/// moments = {.reverse_kl = true};`
struct Moments {
  bool student_entropy = false;
  bool teacher_entropy = false;
  bool forward_kl = false;  // needs the teacher, as reverse_kl does
  bool reverse_kl = false;

  constexpr bool any() const { return student_entropy || teacher_entropy || forward_kl || reverse_kl; }
  friend constexpr Moments operator|(Moments a, Moments b) {
    return {a.student_entropy || b.student_entropy, a.teacher_entropy || b.teacher_entropy,
            a.forward_kl || b.forward_kl, a.reverse_kl || b.reverse_kl};
  }
};

/// One vocabulary entry of the student, in lanes of type P (float, double or a SIMD pack). Logits more than 1e6 below
/// the largest of the row (also -inf) count as 1e6 below the largest, so that every field is finite.
template <class P>
struct StudentEntry {
  P p_s;  // probability
  P log_p_s;
};
/// One vocabulary entry of student and teacher, for losses that have `static constexpr bool reads_teacher = true`.
template <class P>
struct Entry : StudentEntry<P> {
  P p_t;
  P log_ratio;  // D = log p_s - log p_t, from logits
};

/// The value f of one entry and its derivative h = df / d log p_s, up to a multiple of p_s.
template <class P>
struct EntryLoss {
  P value, derivative;
};

/// The label (next token) of one row.
struct LabelPoint {
  Dual log_prob;  // log p_s(label) at the temperature of the loss; its derivative is 1
  double teacher_log_prob = RowStatistics::unknown;    // log p_t(label) at that temperature, if the loss reads it
  double behaviour_log_prob = RowStatistics::unknown;  // log mu(label) if given; mu is what drew the label
  bool has_behaviour = false;
  double reverse_kl = RowStatistics::unknown;  // KL(p_s || p_t) of the row, if `moments` asks for it
};

/// One row of the teacher's top-k (the support): log-probabilities of its tokens and of the mass outside under both
/// models, and the places where on_support() writes the derivatives.
struct SupportPoint {
  std::span<const double> log_p_t, log_p_s;  // [K]
  double log_tail_t = 0, log_tail_s = 0;     // of the mass outside; log_tail_s = -infinity: nothing outside
  std::span<double> derivative;  // [K] dL / d log p_s, up to a multiple of p_s, the same for tail_derivative
  double tail_derivative = 0;    // dL / d log tail_s
  bool closed = false;           // the derivatives sum to 0, and the gradient outside the support is 0
  double tail_value = 0;         // part of the value from the mass outside, for the metrics
};

// ---- what the engine asks of a loss ---------------------------------------------------------------------------------
//

/// True where L::entry reads the teacher's distribution (`static constexpr bool reads_teacher = true`).
template <class L>
constexpr bool reads_teacher = [] {
  if constexpr (requires { L::reads_teacher; }) return L::reads_teacher;
  else return false;
}();
/// The type of the entries that entry() of the loss gets. Without reads_teacher, an entry has no fields of the teacher.
template <class L, class P>
using EntryOf = std::conditional_t<reads_teacher<L>, Entry<P>, StudentEntry<P>>;
template <class L, class P>
KDLIB_INLINE const EntryOf<L, P>& as_entry_of(const Entry<P>& x) {
  return x;
}
template <class L>
constexpr bool has_entry = requires(const L& l, const RowStatistics& r, const EntryOf<L, double>& x) {
  { l.entry(r, x) } -> std::same_as<EntryLoss<double>>;
};
/// True if entry() takes an Entry but the loss does not have reads_teacher = true, which is a mistake.
template <class L>
constexpr bool hides_teacher = !has_entry<L> && requires(const L& l, const RowStatistics& r, const Entry<double>& x) {
  l.entry(r, x);
};
template <class L>
constexpr bool has_label_part = requires(const L& l, const LabelPoint& p) {
  { l.at_label(p) } -> std::same_as<Dual>;
};
template <class L>
constexpr bool has_normaliser_part = requires(const L& l, const RowStatistics& r) {
  { l.at_normaliser(r) } -> std::same_as<Dual>;
};
template <class L>
constexpr bool has_support_part = requires(const L& l, SupportPoint& p) {
  { l.on_support(p) } -> std::same_as<double>;
};
/// True for losses with limits. Such a loss has `clamped(point) -> bool`, which says whether a limit acted on the row.
template <class L>
constexpr bool has_clamp = requires(const L& l, const LabelPoint& p) {
  { l.clamped(p) } -> std::same_as<bool>;
};
/// True if the loss, or a term of the sum, reads the teacher's top-k.
template <class L>
constexpr bool reads_support = [] {
  if constexpr (requires { L::reads_support; }) return L::reads_support;
  else return has_support_part<L>;
}();
template <class Targets>
constexpr bool gives_support = [] {
  if constexpr (requires { Targets::teacher_top_k; }) return Targets::teacher_top_k;
  else return false;
}();
/// True for losses whose values lie in [0, largest()]. Such a loss has `largest() -> double`. The value of a row is
/// limited to that range, so that rounding of 1e-7 cannot make a divergence negative or larger than its bound. NaN
/// stays NaN. The values of terms in a Sum are not limited.
template <class L>
constexpr bool has_bounds = requires(const L& l) {
  { l.largest() } -> std::same_as<double>;
};
template <class L>
KDLIB_HOST_DEVICE double within_bounds(const L& l, double value, double weight = 1) {
  if constexpr (has_bounds<L>) {
    const double most = weight * l.largest();
    return value < 0 ? 0 : (value > most ? most : value);
  }
  return value;
}
template <class L>
constexpr bool has_derivative_sum = requires(const L& l, const RowStatistics& r) {
  { l.derivative_sum(r) } -> std::same_as<double>;
};
template <class L>
constexpr bool is_loss_sum = requires {
  requires L::is_sum;
};

/// The number of losses in a sum, including those in its inner sums; 1 for a loss.
template <class L>
constexpr int leaf_count = [] {
  if constexpr (is_loss_sum<L>) return L::leaves;
  else return 1;
}();

/// True where L::at_label reads the teacher's log-probability of the label.
template <class L>
constexpr bool reads_teacher_label = [] {
  if constexpr (requires { L::reads_teacher_label; }) return L::reads_teacher_label;
  else return false;
}();
/// True if the loss, or a term of the sum, needs RowStatistics::head_share: the share of the difference between both
/// models that lies on the teacher's head, which `head_mass` defines (AdaptiveKl).
template <class L>
constexpr bool reads_head_share = [] {
  if constexpr (requires { L::reads_head_share; }) return L::reads_head_share;
  else return false;
}();
template <class L>
constexpr Moments moments_of = [] {
  if constexpr (requires { L::moments; }) return L::moments;
  else return Moments{};
}();

/// True for a sum whose parts the engine computes one after the other, each with its own statistics.
template <class L>
constexpr bool walked_by_groups = [] {
  if constexpr (requires { L::walked_by_groups; }) return L::walked_by_groups;
  else return false;
}();

// What a loss needs of a row. The static members above decide, unless the terms of the loss are only known at run time
// (mixes.hpp).
template <class L>
KDLIB_HOST_DEVICE bool needs_moments(const L& l) {
  if constexpr (requires { l.needs_moments(); }) return l.needs_moments();
  else return moments_of<L>.any();
}
template <class L>
KDLIB_HOST_DEVICE bool needs_teacher(const L& l) {
  if constexpr (requires { l.needs_teacher(); }) return l.needs_teacher();
  else return reads_teacher<L> || reads_teacher_label<L>;
}
template <class L>
KDLIB_HOST_DEVICE bool has_limits(const L& l) {
  if constexpr (requires { l.has_limits(); }) return l.has_limits();
  else return has_clamp<L>;
}

/// Returns the field `temperature` of the loss, or 1 if the loss has none.
template <class L>
KDLIB_HOST_DEVICE double temperature_of(const L& l) {
  if constexpr (requires { l.temperature; }) return static_cast<double>(l.temperature);
  else return 1;
}
/// Returns T^2 if the loss has t_squared = true, else 1.
template <class L>
KDLIB_HOST_DEVICE double factor_of(const L& l) {
  if constexpr (requires { l.t_squared; }) return l.t_squared ? temperature_of(l) * temperature_of(l) : 1;
  else return 1;
}

/// A row loss: a sum over the vocabulary, a function of the label's log-probability, of the normaliser or of the
/// support, or several of these; or a Sum of such losses.
template <class L>
concept RowLossShape =
    is_loss_sum<L> || has_entry<L> || has_label_part<L> || has_normaliser_part<L> || has_support_part<L>;

/// A row loss for which `Targets` hold everything that the loss reads.
template <class L, class Targets>
concept RowLoss = RowLossShape<L> &&(!reads_teacher<L> || Targets::teacher_rows) &&
                  (!reads_teacher_label<L> || Targets::teacher_label) && (!reads_support<L> || gives_support<Targets>);

/// The rows of logits that the engine works on. A pointer may be nullptr if nothing needs it.
template <class T>
struct RowTask {
  std::int64_t rows = 0;
  std::int64_t columns = 0;    // number of vocabulary entries that count; a row in memory may be longer
  const T* student = nullptr;  // [rows, student_stride]
  std::int64_t student_stride = 0;
  const T* teacher = nullptr;  // [rows, teacher_stride]
  std::int64_t teacher_stride = 0;
  bool teacher_is_scratch = false;  // the engine may overwrite the teacher's logits
  T* gradient = nullptr;            // [rows, gradient_stride]; may alias student or teacher; nullptr: value only
  std::int64_t gradient_stride = 0;
  const std::int32_t* labels = nullptr;       // [rows]
  const float* weights = nullptr;             // [rows], nullptr: 1
  const float* behaviour = nullptr;           // [rows] log-probabilities with which the labels were drawn
  const std::int32_t* support_ids = nullptr;  // [rows, support_size] ids of the teacher's top-k; -1: absent
  const T* support_log_probs = nullptr;       // [rows, support_size] at the loss's temperature
  const T* support_log_tail = nullptr;        // [rows] log of the mass of all other ids
  std::int64_t support_size = 0;
  const float* teacher_label = nullptr;  // [rows] log p_t(label) at T = 1, if `teacher` is nullptr
  double scale = 1;
  bool metrics = false;
  bool jensen_shannon =
      false;  // with metrics: also RowMetrics::js, which costs one more sweep with a logarithm for each entry
};

/// The value and metrics of one row, unweighted (each weight is 1). Rows of weight 0 keep zeros.
struct RowResult {
  double value = 0;
  RowMetrics metrics{};
  /// An id of the row's top-k that is outside the vocabulary, if the engine looks for such ids (on a device). 0, which
  /// every vocabulary has, means that there is none.
  std::int64_t wrong_id = 0;
};

/// The row engine of device D for logits of type T. backend/cpu/rows.hpp and backend/cuda/rows.cuh specialise it.
template <class D, class T>
struct RowKernels;

KDLIB_NAMESPACE_END

#include "kdlib/loss/concepts_inl.hpp"

#endif
