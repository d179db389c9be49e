// SPDX-License-Identifier: Apache-2.0
// The shape of a row loss and of what it reads and returns: the one thing that losses, row engines, teachers and
// trainers share.
//
// Notation: p_t teacher and p_s student distribution of one row over V entries, z logits, T temperature, D = log p_s -
// log p_t.
//
// A ROW LOSS is an aggregate with up to five parts, all optional but one of the last four:
//   float temperature = 1;          both models at T
//   bool t_squared = true;          T^2 multiplies value and gradient
//   entry(row, x) -> EntryLoss<P>   a sum over the vocabulary: f and h = df / d log p_s of one entry. Multiples of p_s
//                                   may be added to h (the softmax removes them): choose h = 0 where p_s = p_t
//   at_label(point) -> Dual         a function of log p_s(label): value and derivative
//   on_support(point) -> double     a function of log p_s on the teacher's top-k and of the mass outside; fills its
//                                   derivatives
//   at_normaliser(row) -> Dual      a function of the student's log-sum-exp: value and derivative
//
// and says what it needs by static constexpr members: `reads_teacher` (p_t and D in entry), `reads_teacher_label`,
// `moments`. Where sum h is known from the row's statistics, `derivative_sum(row)` gives it and saves a sweep. The
// engine does the rest: softmax, its Jacobian, T, weights, masks, fusing with the head, metrics.
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
/// Fields that most losses have, for their lists (core/fields.hpp).
constexpr FieldInfo temperature_field{"temperature", "", "> 0", "the logits of both models are divided by it"};
constexpr FieldInfo t_squared_field{"t_squared", "", "", "multiply value and gradient by temperature^2"};
}  // namespace detail

/// A loss is a sum and the weight it is summed over. Only logging divides the two.
struct LossSum {
  double sum = 0, weight = 0;

  double mean() const { return weight > 0 ? sum / weight : 0; }
  LossSum& operator+=(const LossSum& o) {
    sum += o.sum, weight += o.weight;
    return *this;
  }
};

/// Weighted sums over rows, at temperature 1 whatever the loss uses; divide by `weight`. What a target cannot tell
/// (teacher_* without the teacher's distribution, label_* without labels) has weight 0 in `teacher_weight` /
/// `label_weight`, and so on.
struct RowMetrics {
  double weight = 0, teacher_weight = 0, label_weight = 0, js_weight = 0, support_weight = 0, clamp_weight = 0,
         threshold_weight = 0;
  double student_entropy = 0;  // nats
  double teacher_entropy = 0;
  double forward_kl = 0;      // KL(teacher || student)
  double reverse_kl = 0;      // KL(student || teacher)
  double top1_agreement = 0;  // same argmax (lowest id on ties)
  double top5_overlap = 0;    // |top 5 of student and of teacher in common| / 5, exact; V < 5 counts V
  double top5_contains = 0;   // the teacher's argmax is among the student's five largest
  double label_log_prob = 0;  // log p_s(label)
  double label_top1 = 0;      // the label is the student's argmax
  double label_rank = 0;      // 1 + entries that the student finds more probable than the label
  double js =
      0;  // Jensen-Shannon divergence, beta = 1/2, in [0, log 2]: on request, or where it is the loss; over js_weight
  // Of losses on the teacher's top-k, at the targets' temperature; over support_weight.
  double teacher_support_mass = 0, student_support_mass = 0;  // of both models on the teacher's K tokens, in [0, 1]
  double tail_loss = 0;       // the part of the row's loss that the mass outside them makes (TopKMass::tail)
  double clamped = 0;         // a limit of a sampled-token loss cut this row's ratio or advantage; over clamp_weight
  double skipped_blocks = 0;  // share of the gradient's blocks that gradient_threshold left out; over threshold_weight

  RowMetrics& operator+=(const RowMetrics& o);
};

/// Mean, deviation and range of one value over weighted rows. Sums of parts give what one pass over all rows gives, up
/// to rounding.
struct RowSpread {
  double weight = 0, mean = 0;
  double squares = 0;                                      // sum of weight * (value - mean)^2
  double least = std::numeric_limits<double>::infinity();  // over rows of weight > 0
  double most = -std::numeric_limits<double>::infinity();

  void add(double value, double row_weight);
  RowSpread& operator+=(const RowSpread& o);
  double deviation() const { return weight > 0 ? std::sqrt(squares / weight) : 0; }
};

/// What a fused pass gives back.
struct HeadLossResult {
  LossSum loss;                    // sum of weight_r * value_r and of weight_r; `scale` is not in it
  RowMetrics metrics;              // zeros unless asked for
  RowSpread kl;                    // of KL(teacher || student) at T = 1, with the metrics; empty without teacher rows
  std::vector<double> row_values;  // [R] value_r, unweighted, on request; 0 for rows of weight 0

  HeadLossResult& operator+=(const HeadLossResult& o);
};

/// What every row knows besides logits. Spans may be empty where no loss needs them.
struct RowInputs {
  std::span<const std::int32_t> labels{};  // [R] next token, in [0, V)
  std::span<const float> weights{};        // [R] >= 0; empty: all 1. Rows of weight 0 cost nothing and get gradient 0
  std::span<const float> behaviour_log_probs{};  // [R] log-probability under which the label was drawn
};

// ---- what a loss functor sees ---------------------------------------------------------------------------------------
//

/// Statistics of one row at the loss's temperature. Fields that no term asked for are NaN.
struct RowStatistics {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  double temperature = 1;
  double columns = 0;                                   // V
  double student_lse = unknown, teacher_lse = unknown;  // log sum exp(z / T)
  double student_entropy = unknown, teacher_entropy = unknown;
  double forward_kl = unknown, reverse_kl = unknown;
  double head_share = unknown;  // AdaptiveKl's weight of the forward part, for losses with `head_mass`
};

/// Which first-sweep sums a loss needs beyond the two log-sum-exps: `static constexpr Moments moments = {.reverse_kl =
/// true};`
struct Moments {
  bool student_entropy = false;
  bool teacher_entropy = false;
  bool forward_kl = false;  // needs the teacher, as the next does
  bool reverse_kl = false;

  constexpr bool any() const { return student_entropy || teacher_entropy || forward_kl || reverse_kl; }
  friend constexpr Moments operator|(Moments a, Moments b) {
    return {a.student_entropy || b.student_entropy, a.teacher_entropy || b.teacher_entropy,
            a.forward_kl || b.forward_kl, a.reverse_kl || b.reverse_kl};
  }
};

/// One vocabulary entry in lanes of type P (float, double or a SIMD pack). Logits more than 1e6 below the row's largest
/// (-inf too) count as 1e6 below it, so that every field is finite.
template <class P>
struct StudentEntry {
  P p_s;  // probability
  P log_p_s;
};
/// The same with the teacher's side, for losses that say `static constexpr bool reads_teacher = true`.
template <class P>
struct Entry : StudentEntry<P> {
  P p_t;
  P log_ratio;  // D = log p_s - log p_t, from logits
};

/// f of one entry and its derivative h by log p_s, up to multiples of p_s.
template <class P>
struct EntryLoss {
  P value, derivative;
};

/// One row's label.
struct LabelPoint {
  Dual log_prob;  // log p_s(label) at the loss's temperature; the derivative is by itself, 1
  double teacher_log_prob = RowStatistics::unknown;    // log p_t(label) at that temperature, where the loss reads it
  double behaviour_log_prob = RowStatistics::unknown;  // log mu(label), where given
  bool has_behaviour = false;
  double reverse_kl = RowStatistics::unknown;  // KL(p_s || p_t) of the row, where the loss's moments ask for it
};

/// One row of the teacher's top-k: the log-probabilities of the support under both models, of the mass outside it, and
/// where the derivatives go.
struct SupportPoint {
  std::span<const double> log_p_t, log_p_s;  // [K]
  double log_tail_t = 0, log_tail_s = 0;     // log_tail_s = -infinity: nothing outside
  std::span<double> derivative;  // [K] dL / d log p_s, up to one common multiple of p_s (also in tail_derivative)
  double tail_derivative = 0;    // dL / d log tail_s
  bool closed = false;           // the derivatives sum to 0 and nothing outside the support changes
  double tail_value = 0;         // the part of the value that the mass outside makes, for the metrics
};

// ---- what the engine asks of a loss ---------------------------------------------------------------------------------
//

/// True where L::entry reads the teacher's distribution (`static constexpr bool reads_teacher = true`).
template <class L>
constexpr bool reads_teacher = [] {
  if constexpr (requires { L::reads_teacher; }) return L::reads_teacher;
  else return false;
}();
/// What entry() of the loss is given: without reads_teacher there are no teacher's fields to read.
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
/// entry() takes an Entry, and the loss does not say that it reads the teacher.
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
/// Losses with limits say by `clamped(point) -> bool` that one acted on this row.
template <class L>
constexpr bool has_clamp = requires(const L& l, const LabelPoint& p) {
  { l.clamped(p) } -> std::same_as<bool>;
};
/// The loss, or a term of the sum, reads the teacher's top-k.
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
/// Losses that lie in [0, largest()] say so by `largest() -> double`: a row's value is cut there, so that rounding of
/// 1e-7 cannot make a divergence negative or larger than its bound. NaN stays. Terms of a Sum are not cut.
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

/// Losses in a sum and its sums; 1 for a loss.
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
/// The loss, or a term of the sum, weights by how far the models are apart on the teacher's head
/// (RowStatistics::head_share, from its `head_mass`).
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

/// A sum whose parts the engine walks one after the other, each with its own statistics.
template <class L>
constexpr bool walked_by_groups = [] {
  if constexpr (requires { L::walked_by_groups; }) return L::walked_by_groups;
  else return false;
}();

// What a loss needs of a row: the static members above, unless its terms are known at run time only (mixes.hpp).
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

/// The loss's field `temperature`, 1 where it has none.
template <class L>
KDLIB_HOST_DEVICE double temperature_of(const L& l) {
  if constexpr (requires { l.temperature; }) return static_cast<double>(l.temperature);
  else return 1;
}
/// T^2 where the loss asks for it.
template <class L>
KDLIB_HOST_DEVICE double factor_of(const L& l) {
  if constexpr (requires { l.t_squared; }) return l.t_squared ? temperature_of(l) * temperature_of(l) : 1;
  else return 1;
}

/// A row loss: a sum over the vocabulary, a function of the label's log-probability or of the normaliser, or several of
/// them; or a Sum of such.
template <class L>
concept RowLossShape =
    is_loss_sum<L> || has_entry<L> || has_label_part<L> || has_normaliser_part<L> || has_support_part<L>;

/// A row loss whose needs the targets meet.
template <class L, class Targets>
concept RowLoss = RowLossShape<L> &&(!reads_teacher<L> || Targets::teacher_rows) &&
                  (!reads_teacher_label<L> || Targets::teacher_label) && (!reads_support<L> || gives_support<Targets>);

/// Rows of logits for the engine. Pointers may be nullptr where nothing needs them.
template <class T>
struct RowTask {
  std::int64_t rows = 0;
  std::int64_t columns = 0;    // entries that count; each row may be longer
  const T* student = nullptr;  // [rows, student_stride]
  std::int64_t student_stride = 0;
  const T* teacher = nullptr;  // [rows, teacher_stride]
  std::int64_t teacher_stride = 0;
  bool teacher_is_scratch = false;  // the engine may overwrite the teacher's logits
  T* gradient = nullptr;  // [rows, gradient_stride]; may be the student's or the teacher's memory; nullptr: value only
  std::int64_t gradient_stride = 0;
  const std::int32_t* labels = nullptr;       // [rows]
  const float* weights = nullptr;             // [rows], nullptr: 1
  const float* behaviour = nullptr;           // [rows] log-probabilities of the labels under what drew them
  const std::int32_t* support_ids = nullptr;  // [rows, support_size] the teacher's top-k; -1: absent
  const T* support_log_probs = nullptr;       // [rows, support_size] at the loss's temperature
  const T* support_log_tail = nullptr;        // [rows] log of the mass of all other ids
  std::int64_t support_size = 0;
  const float* teacher_label = nullptr;  // [rows] log p_t(label) at T = 1, where there are no teacher rows
  double scale = 1;
  bool metrics = false;
  bool jensen_shannon =
      false;  // with metrics: RowMetrics::js too, one more look at both rows with a logarithm an entry
};

/// One row's value and metrics, unweighted (weight 1 each). Rows of weight 0 keep zeros.
struct RowResult {
  double value = 0;
  RowMetrics metrics{};
  /// An id of the row's top-k that is outside the vocabulary, where the engine looks for them (a device). 0, an id
  /// of every vocabulary: there is none.
  std::int64_t wrong_id = 0;
};

/// The row engine of a device: logits of storage type T. Specialised by backend/cpu/rows.hpp and backend/cuda/rows.cuh.
template <class D, class T>
struct RowKernels;

KDLIB_NAMESPACE_END

#include "kdlib/loss/concepts_inl.hpp"

#endif
