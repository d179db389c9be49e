// SPDX-License-Identifier: Apache-2.0
// Checks, chunks and products around the row engine.
#ifndef KDLIB_LOSS_HEAD_LOSS_INL_HPP
#define KDLIB_LOSS_HEAD_LOSS_INL_HPP

#include <algorithm>
#include <cmath>
#include <string>

#include "kdlib/loss/head_loss.hpp"
#include "kdlib/loss/sum.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

template <class Loss>
void check_settings(const Loss& loss, const RowInputs& rows) {
  if constexpr (is_loss_sum<Loss>) {
    loss.for_each([&](double weight, const auto& l) {
      require<ConfigError>(std::isfinite(weight), "[Sum] a Term's weight is not finite");
      check_settings(l, rows);
    });
  } else {
    const double t = temperature_of(loss);
    require<ConfigError>(t > 0 && std::isfinite(t), "[loss] temperature is ", t, "; it must be positive");
    if constexpr (requires { loss.validate(); }) loss.validate();
    if constexpr (requires { loss.check_inputs(rows); }) loss.check_inputs(rows);
  }
}

template <class Loss, class Targets>
constexpr void check_types() {
  static_assert(!hides_teacher<Loss>,
                "entry(row, x) takes an Entry, which holds p_t and log_ratio of the teacher, but the loss does not say "
                "`static constexpr bool reads_teacher = true`; say so, or take a StudentEntry");
  static_assert(RowLossShape<Loss> || hides_teacher<Loss>,
                "this is no row loss: an aggregate with entry(row, x) -> EntryLoss<P>, at_label(point) -> Dual or "
                "at_normaliser(row) -> Dual is needed, see kdlib/loss/concepts.hpp");
  static_assert(!reads_teacher<Loss> || Targets::teacher_rows,
                "this loss reads the teacher's whole distribution: give LogitTargets or HiddenTargets, not NoTargets, "
                "SampledTargets or TopKTargets; TopKForwardKl and TopKReverseKl read TopKTargets");
  static_assert(!reads_support<Loss> || gives_support<Targets>,
                "this loss reads the teacher's top-k tokens: give TopKTargets");
  static_assert(!reads_teacher_label<Loss> || Targets::teacher_label,
                "this loss reads the teacher's log-probability of the label: give SampledTargets, LogitTargets or "
                "HiddenTargets, not NoTargets");
}

/// Every length and label against R rows and the vocabulary.
void check_rows(const RowInputs& rows, std::int64_t count, std::int64_t vocabulary, bool needs_labels);
/// The number of ids that both softmaxes run over.
std::int64_t shared_columns(std::int64_t student, std::int64_t student_real, std::int64_t teacher,
                            std::int64_t teacher_real);
void check_support_ids(const std::int32_t* ids, std::int64_t count, std::int64_t size, std::int64_t vocabulary);

/// What a top-k loss was made for against what the targets are.
template <class Loss>
void check_support_temperature(const Loss& loss, float temperature) {
  if constexpr (is_loss_sum<Loss>)
    loss.for_each([&](double, const auto& l) { check_support_temperature(l, temperature); });
  else if constexpr (has_support_part<Loss>)
    require<ConfigError>(
        loss.temperature == temperature, "[head_loss] the top-k targets hold log-probabilities at temperature ",
        temperature, " and the loss wants ", loss.temperature,
        "; a softmax at another temperature cannot be made from them: set the loss's temperature, or cache again");
}
template <class Loss>
void check_support_size(const Loss& loss, std::int64_t size) {
  if constexpr (is_loss_sum<Loss>) loss.for_each([&](double, const auto& l) { check_support_size(l, size); });
  else if constexpr (requires { loss.check_support(size); }) loss.check_support(size);
}

inline RowMetrics weighted(const RowMetrics& m, double w) {
  RowMetrics o;
  for (const auto field : row_metric_fields) o.*field = w * (m.*field);
  return o;
}

}  // namespace detail

KDLIB_NAMESPACE_END

#include "kdlib/loss/head_loss_body_inl.hpp"

#endif
