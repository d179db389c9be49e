// SPDX-License-Identifier: Apache-2.0
// Targets: types that hold the signal of a teacher. The signal is nothing besides labels, log-probabilities of drawn
// tokens, logits, or hidden states and a head.
#ifndef KDLIB_LOSS_TARGETS_HPP
#define KDLIB_LOSS_TARGETS_HPP

#include <concepts>
#include <cstdint>
#include <span>

#include "kdlib/tensor/view.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T, class D>
class PackedMatrix;

/// The last matrix W of a language model and the changes to its logits: z = softcap(logit_scale * (W h + bias)) for a
/// hidden state h, with softcap(u) = c tanh(u / c).
template <class T, class D>
struct HeadView {
  View<const T, D> weight;  // [V, H]; for a packed head only the shape is set
  View<const T, D> bias{};  // [V] or empty
  float softcap = 0;        // c > 0, or 0 for none
  float logit_scale = 1;
  std::int64_t real_vocabulary =
      0;  // number of ids of the tokenizer; later columns are padding and stay outside every softmax. 0: all V
  const PackedMatrix<T, D>* packed =
      nullptr;  // [V, H] in a packed format (quant/packed_matrix.hpp), or nullptr; frozen

  std::int64_t columns() const { return real_vocabulary > 0 ? real_vocabulary : weight[0]; }
};

// ---- targets: the teacher's signal as a type ------------------------------------------------------------------------
//

/// No teacher: only labels.
struct NoTargets {
  static constexpr bool teacher_rows = false;   // the whole distribution of every row is known
  static constexpr bool teacher_label = false;  // log p_t(label) is known
  NoTargets rows(std::int64_t, std::int64_t) const { return {}; }
};

/// The teacher's log-probability of each row's label, at temperature 1.
struct SampledTargets {
  static constexpr bool teacher_rows = false;
  static constexpr bool teacher_label = true;
  std::span<const float> log_probs;  // [R]
  SampledTargets rows(std::int64_t begin, std::int64_t count) const {
    return {log_probs.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count))};
  }
};

/// The teacher's logits, stored for all rows.
template <class T, class D>
struct LogitTargets {
  static constexpr bool teacher_rows = true;
  static constexpr bool teacher_label = true;
  View<const T, D> logits;           // [R, V_t]
  std::int64_t real_vocabulary = 0;  // as in HeadView
  LogitTargets rows(std::int64_t begin, std::int64_t count) const {
    return {logits.rows(begin, count), real_vocabulary};
  }
};

/// The teacher's hidden states and head. The logits are only made for one chunk of rows at a time.
template <class T, class D>
struct HiddenTargets {
  static constexpr bool teacher_rows = true;
  static constexpr bool teacher_label = true;
  View<const T, D> hidden;  // [R, H_t]
  HeadView<T, D> head;
  HiddenTargets rows(std::int64_t begin, std::int64_t count) const { return {hidden.rows(begin, count), head}; }
};

/// Targets of your own, such as an ensemble of teachers or a teacher on another machine. They write the teacher's
/// logits into a chunk of rows when the loss needs the chunk, so that logits [R, V] of all rows never exist at once.
/// Besides `teacher_rows = true` and `teacher_label = true`, such targets need:
///   row_count()        the number of rows, R
///   vocabulary()       V_t, the width of the teacher's logits
///   real_vocabulary()  as in HeadView; 0: all V_t
///   write_logits(begin, end, out)  writes the teacher's logits of rows [begin, end) into out [end - begin, columns],
///                      columns the ids that both models have, at most V_t. A chunk is written in one call for each run
///                      of rows of positive weight, in order.
template <class X, class T, class D>
concept WritesTeacherLogits = X::teacher_rows && requires(const X& x, std::int64_t row, View<T, D> out) {
  { x.row_count() } -> std::convertible_to<std::int64_t>;
  { x.vocabulary() } -> std::convertible_to<std::int64_t>;
  { x.real_vocabulary() } -> std::convertible_to<std::int64_t>;
  x.write_logits(row, row, out);
};

KDLIB_NAMESPACE_END

#endif
