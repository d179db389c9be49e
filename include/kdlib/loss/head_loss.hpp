// SPDX-License-Identifier: Apache-2.0
// The fused pass: multiplies hidden states by the head and computes loss, gradients and metrics in chunks of rows, so
// that logits [rows, vocabulary] of all rows never exist at once.
#ifndef KDLIB_LOSS_HEAD_LOSS_HPP
#define KDLIB_LOSS_HEAD_LOSS_HPP

#include <cstdint>
#include <type_traits>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/host_reads.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// The memory of a fused pass, and what the pass reports besides the loss.
struct HeadLossSettings {
  /// Limit in bytes of the logits of a chunk, of student and teacher together. A chunk has at least one row.
  std::int64_t workspace_bytes = std::int64_t{256} << 20;
  bool metrics = false;         // fill HeadLossResult::metrics
  bool jensen_shannon = false;  // with metrics: RowMetrics::js for any loss (no cost if the loss is JensenShannon{})
  bool row_values = false;      // fill HeadLossResult::row_values
  /// Leaves small parts of the gradient g of the logits out of the backward products. 0 <= gradient_threshold < 1; 0:
  /// nothing is left out. In each block of 128 consecutive rows, a column is left out if |g| < gradient_threshold *
  /// (largest |g| of the row) in every row of the block. The hidden gradient of a row then misses at most
  /// gradient_threshold * (largest |g|) * (sum of the norms of the head's rows that are left out). Loss and metrics do
  /// not change. Only on the host. docs/losses.md has measurements.
  double gradient_threshold = 0;
};

/// Returns the loss of R rows and, in the same pass, forms the gradient of scale * sum_r weight_r * value_r.
///
///   student          head of the student, [V, H]
///   hidden           [R, H] hidden states after the final norm, one row a predicted token
///   targets          the teacher's signal of the same R rows: NoTargets, SampledTargets, LogitTargets,
///                    HiddenTargets or TopKTargets,
///                    or targets of your own (WritesTeacherLogits)
///   rows             labels, weights and behaviour log-probabilities of the R rows
///   scale            factor of the gradient only, usually 1 / (weight of the whole step)
///   hidden_gradient  [R, H], is written; empty: no gradient is formed (evaluation)
///   head             parameter whose gradient [V, H] is added to; nullptr: the head is frozen
///
/// Rows are computed in chunks of equal size, as large as workspace_bytes allows. Rows of weight 0 are left out before
/// the first product. Results repeat bit for bit for a fixed thread count; the size of a chunk only changes the order
/// of the sums in the head's gradient. ShapeError: sizes do not fit, for example vocabularies without a common
/// real_vocabulary. InputError: a label is outside the vocabulary. ConfigError: a setting cannot be used. BackendError:
/// a setting is not available on the device.
template <class Loss, class T, class D, class Targets>
HeadLossResult head_loss(const Loss& loss, const HeadView<T, D>& student, std::type_identity_t<View<const T, D>> hidden,
                         const Targets& targets, const RowInputs& rows, double scale,
                         std::type_identity_t<View<T, D>> hidden_gradient, std::type_identity_t<Parameter<T, D>*> head,
                         const HeadLossSettings& settings = {});

/// The result of a pass whose work may still run on the device. Call wait(); or, to wait for several results at once,
/// call read(HostReads&) and later result(). On the host the result is available at once.
template <class D>
class PendingHeadLoss;

/// Does the same as head_loss() without waiting for the device. A top-k id outside the vocabulary is then refused by
/// result().
template <class Loss, class T, class D, class Targets>
PendingHeadLoss<D> queue_head_loss(const Loss& loss, const HeadView<T, D>& student,
                                   std::type_identity_t<View<const T, D>> hidden, const Targets& targets,
                                   const RowInputs& rows, double scale,
                                   std::type_identity_t<View<T, D>> hidden_gradient,
                                   std::type_identity_t<Parameter<T, D>*> head, const HeadLossSettings& settings = {});

/// Computes loss and gradient for logits that exist already: student [R, V]. Writes gradient [R, V], which may alias
/// `student`; if `gradient` is empty, only the value is computed. T is float, double or bf16. Sums are formed in
/// accumulate_t<T>, and the gradient is rounded once.
template <class Loss, class T, class D, class Targets>
HeadLossResult row_loss(const Loss& loss, std::type_identity_t<View<const T, D>> student, const Targets& targets,
                        const RowInputs& rows, double scale, View<T, D> gradient,
                        const HeadLossSettings& settings = {});

/// Writes the logits of a head for a few rows: out = softcap(logit_scale * (hidden W^T + bias)), for hidden [n, H] and
/// out [n, columns] with columns <= V. Targets of your own (WritesTeacherLogits) can be built from this function.
template <class T, class D>
void write_head_logits(const HeadView<T, D>& head, std::type_identity_t<View<const T, D>> hidden,
                       std::type_identity_t<View<logit_t<D, T>, D>> out);

/// Returns the number of rows in a chunk of head_loss(): as many as the workspace holds, then reduced so that all
/// chunks are about equal. A chunk needs `copies` buffers of [rows, vocabulary].
std::int64_t head_loss_chunk(std::int64_t rows, std::int64_t vocabulary, std::int64_t copies,
                             std::int64_t element_bytes, std::int64_t workspace_bytes);

KDLIB_NAMESPACE_END

#include "kdlib/loss/head_loss_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/loss/head_loss_checks_inl.hpp"
#endif

#endif
