// SPDX-License-Identifier: Apache-2.0
// The fused pass: hidden states x head, loss, gradients and metrics in chunks of rows. [rows, vocabulary] never exists.
#ifndef KDLIB_LOSS_HEAD_LOSS_HPP
#define KDLIB_LOSS_HEAD_LOSS_HPP

#include <cstdint>
#include <type_traits>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/host_reads.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// Memory of a fused pass and what it reports besides the loss.
struct HeadLossSettings {
  std::int64_t workspace_bytes =
      std::int64_t{256}
      << 20;             // bound of the chunk's logits, student's and teacher's together; at least one row is taken
  bool metrics = false;  // fill HeadLossResult::metrics
  bool jensen_shannon =
      false;                // with metrics: RowMetrics::js for any loss (free where the loss is JensenShannon{} itself)
  bool row_values = false;  // fill HeadLossResult::row_values
  /// Leaves small parts of the logits' gradient out of the backward products, 0 <= gradient_threshold < 1; 0: nothing.
  /// Of 128 rows that follow each other a column is left out where in each of them |g| < gradient_threshold * the row's
  /// largest |g|. A row's hidden gradient then misses at most gradient_threshold * largest |g| * (sum of the norms of
  /// the head's rows that are left out); loss and metrics are the same. On the host only. docs/losses.md has figures.
  double gradient_threshold = 0;
};

/// Loss of R rows and, in the same pass, its gradient d(scale * sum_r weight_r * value_r).
///
///   student          head of the student, [V, H]
///   hidden           [R, H] hidden states after the final norm, one row a predicted token
///   targets          the teacher's signal of the same R rows: NoTargets, SampledTargets, LogitTargets,
///                    HiddenTargets or TopKTargets,
///                    or targets of your own (WritesTeacherLogits)
///   rows             labels, weights, behaviour log-probs of the R rows
///   scale            multiplies the gradient alone: 1 / (weight of the whole step)
///   hidden_gradient  [R, H], written; empty: no gradient is formed (evaluation)
///   head             its gradient [V, H] is added to; nullptr: the head is frozen
///
/// Rows are worked on in chunks of equal size as large as workspace_bytes allows; rows of weight 0 are left out before
/// the first product. Results repeat bit for bit for a fixed thread count; the chunk size changes the order of the head
/// gradient's sums only. Throws ShapeError on sizes that do not fit (vocabularies without a common real_vocabulary
/// among them), InputError on a label outside the vocabulary, ConfigError on settings, BackendError where a setting is
/// not built for the device.
template <class Loss, class T, class D, class Targets>
HeadLossResult head_loss(const Loss& loss, const HeadView<T, D>& student, std::type_identity_t<View<const T, D>> hidden,
                         const Targets& targets, const RowInputs& rows, double scale,
                         std::type_identity_t<View<T, D>> hidden_gradient, std::type_identity_t<Parameter<T, D>*> head,
                         const HeadLossSettings& settings = {});

/// What a pass gives when its work has run, for those who wait for several things at once: read(HostReads&), then
/// result(); or wait(). On the host everything is there at once.
template <class D>
class PendingHeadLoss;

/// head_loss() without waiting for the device. A top-k with an id outside the vocabulary is then refused by result().
template <class Loss, class T, class D, class Targets>
PendingHeadLoss<D> queue_head_loss(const Loss& loss, const HeadView<T, D>& student,
                                   std::type_identity_t<View<const T, D>> hidden, const Targets& targets,
                                   const RowInputs& rows, double scale,
                                   std::type_identity_t<View<T, D>> hidden_gradient,
                                   std::type_identity_t<Parameter<T, D>*> head, const HeadLossSettings& settings = {});

/// The same for logits that exist already: student [R, V]; gradient [R, V] written, may be the student's own memory;
/// empty: value only. T is float, double or bf16; sums are formed in accumulate_t<T>, the gradient is rounded once.
template <class Loss, class T, class D, class Targets>
HeadLossResult row_loss(const Loss& loss, std::type_identity_t<View<const T, D>> student, const Targets& targets,
                        const RowInputs& rows, double scale, View<T, D> gradient,
                        const HeadLossSettings& settings = {});

/// Writes the logits of one head for a few rows, softcap(logit_scale * (hidden W^T + bias)): hidden [n, H], out
/// [n, columns] with columns at most V. What targets of your own are made of.
template <class T, class D>
void write_head_logits(const HeadView<T, D>& head, std::type_identity_t<View<const T, D>> hidden,
                       std::type_identity_t<View<logit_t<D, T>, D>> out);

/// Rows a chunk of head_loss takes: as many as the workspace holds, then split evenly. `copies` buffers of [rows,
/// vocabulary].
std::int64_t head_loss_chunk(std::int64_t rows, std::int64_t vocabulary, std::int64_t copies,
                             std::int64_t element_bytes, std::int64_t workspace_bytes);

KDLIB_NAMESPACE_END

#include "kdlib/loss/head_loss_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/loss/head_loss_checks_inl.hpp"
#endif

#endif
