// SPDX-License-Identifier: Apache-2.0
// Forms the gradient of one optimizer step. All micro-batches share one normaliser (the sum of all row weights), which
// is fixed before the first micro-batch.
#ifndef KDLIB_TRAIN_GRADIENT_STEP_HPP
#define KDLIB_TRAIN_GRADIENT_STEP_HPP

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kdlib/loss/head_loss.hpp"
#include "kdlib/train/concepts.hpp"
#include "kdlib/train/expert_use.hpp"
#include "kdlib/train/objective.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings for forming the gradient.
struct GradientSettings {
  bool recompute = false;            // RunSettings::recompute
  std::int64_t workspace_bytes = 0;  // RunSettings::workspace_bytes
  double gradient_threshold = 0;     // RunSettings::gradient_threshold
  bool replay_routing = false;       // RunSettings::replay_routing
  bool jensen_shannon = false;       // RunSettings::jensen_shannon
  bool spans = false;  // true: the row weights come from SpanWeights, the loss is the weighted sum over rows and not a
                       // mean, and StepSums::span_loss is filled
};

/// Sums over all rows of a step. Divide them by loss.weight to get means.
struct StepSums {
  LossSum loss;
  RowMetrics metrics;
  RowSpread kl;       // spread of KL(teacher || student) over the step's rows; empty if the targets do not give the
                      // teacher's distribution
  ExpertUse experts;  // empty if the student has no mixtures of experts
  std::vector<LossSum> span_loss;  // loss of each span, by the span's number
};

/// Returns the sum of all row weights of the batches, which is the normaliser of a step. The sum does not depend on how
/// the rows are divided into batches.
double total_weight(std::span<const TokenBatch> batches);

/// Moves rows between the order of tokens [N, H] and the packed rows [R, H] that the loss reads. Memory grows on demand
/// and is kept.
template <class T, class D>
class RowBuffer {
 public:
  /// Returns [R, H]: hidden[token[r], :] for every row r. `hidden` is [N, H].
  View<const T, D> gather(View<const T, D> hidden, std::span<const std::int64_t> token);
  /// Returns uninitialised memory [rows, width] into which the loss writes the gradient of the rows.
  View<T, D> gradient(std::int64_t rows, std::int64_t width);
  /// Returns [tokens, H]: the gradient of each row at the place of its token, and 0 elsewhere.
  View<const T, D> scatter(View<const T, D> row_gradient, std::span<const std::int64_t> token, std::int64_t tokens);

 private:
  Tensor<T, D> rows_, row_gradient_, hidden_gradient_;
};

/// The sums of batches whose passes may still run on a device. Call read(HostReads&), wait for these reads, then call
/// sums(). Batches are added in their order.
template <class D>
class PendingSums {
 public:
  /// The results of one batch.
  struct Batch {
    std::vector<PendingHeadLoss<D>> losses;  // one, or one for each run of rows (RowRun)
    TokenBatch::Rows rows;                   // filled only with spans
    PendingUse<D> use;
  };

  /// `spans`: true keeps the rows for StepSums::span_loss. `whole`: true if the object covers a whole step; with spans
  /// the row weights then contain the denominators, so that the weight of the loss is 1.
  explicit PendingSums(bool spans = false, bool whole = false) : spans_(spans), whole_(whole) {}
  Batch& begin_batch() { return *batches_.emplace_back(std::make_unique<Batch>()); }
  bool empty() const { return batches_.empty(); }  // true if no row has a weight
  /// Queues the check of the losses of all batches (PendingHeadLoss::check).
  template <class L>
  void check(GradientFactor* factor) const {
    for (const std::unique_ptr<Batch>& batch : batches_)
      for (const PendingHeadLoss<D>& loss : batch->losses) loss.template check<L>(factor);
  }
  void read(HostReads<D>& reads);
  StepSums sums() const;
  /// Reads, waits and returns the sums.
  StepSums wait();

 private:
  bool spans_, whole_;
  std::vector<std::unique_ptr<Batch>> batches_;  // reads point to them
};

/// Sets the gradients of the student's trainable parameters to 0, adds the gradient of sum_rows weight * loss /
/// total_weight(batches), and returns the sums. If total_weight(batches) is 0, all gradients stay zero and neither
/// student nor teacher runs.
template <class Student, class Objective>
class GradientStep {
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;

 public:
  explicit GradientStep(GradientSettings settings = {}) : settings_(settings) {}

  StepSums operator()(Student& student, Objective& objective, std::span<const TokenBatch> batches);
  /// Does the same without waiting for the device: the gradients are queued, and the caller reads the sums later.
  PendingSums<D> queue(Student& student, Objective& objective, std::span<const TokenBatch> batches);

  /// Does the same for the batches of one rank, in a step whose row weights over all ranks add up to `total` > 0.
  /// `taken(sums)` is called when the gradients of a batch are in the parameters. If `each_alone` is true, the
  /// gradients are set to 0 before every batch and after the last one, else only before the first batch.
  template <class Taken>
  void slices(Student& student, Objective& objective, std::span<const TokenBatch> batches, double total,
              bool each_alone, Taken&& taken);

 private:
  void add_batch(Student& student, Objective& objective, const TokenBatch& batch, double scale, double share,
                 PendingSums<D>& sums);
  std::vector<PendingHeadLoss<D>> head_pass(Student& student, Objective& objective, const TokenBatch::Rows& rows,
                                            View<const T, D> hidden, View<T, D> gradient, double scale);

  GradientSettings settings_;
  RowBuffer<T, D> buffer_;
};

KDLIB_NAMESPACE_END

#include "kdlib/train/gradient_step_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/gradient_inputs_inl.hpp"
#endif

#endif
