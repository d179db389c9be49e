// SPDX-License-Identifier: Apache-2.0
// The gradient of one optimizer step: all micro-batches under one normaliser that was fixed before the first of them.
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

/// How the gradient is formed.
struct GradientSettings {
  bool recompute = false;            // RunSettings::recompute
  std::int64_t workspace_bytes = 0;  // RunSettings::workspace_bytes
  double gradient_threshold = 0;     // RunSettings::gradient_threshold
  bool replay_routing = false;       // RunSettings::replay_routing
  bool jensen_shannon = false;       // RunSettings::jensen_shannon
  bool spans =
      false;  // weights come from SpanWeights: the loss is their sum, not a mean; StepSums::span_loss is filled
};

/// Sums over all rows of a step; divide by loss.weight to log.
struct StepSums {
  LossSum loss;
  RowMetrics metrics;
  RowSpread kl;                    // of KL(teacher || student) over the step's rows; empty without teacher rows
  ExpertUse experts;               // empty where the student has no mixtures
  std::vector<LossSum> span_loss;  // of each span that has rows, by number
};

/// Weight of all rows of these batches: the step's normaliser. Splitting the same rows into other batches does not
/// change it.
double total_weight(std::span<const TokenBatch> batches);

/// Rows of a batch between token order and the packed [R, H] that the loss walks. Memory grows on demand and stays.
template <class T, class D>
class RowBuffer {
 public:
  /// hidden[token[r], :] for every row.
  View<const T, D> gather(View<const T, D> hidden, std::span<const std::int64_t> token);
  /// Uninitialised [R, H] for the loss to write.
  View<T, D> gradient(std::int64_t rows, std::int64_t width);
  /// [N, H], the rows' gradient at their tokens, 0 elsewhere.
  View<const T, D> scatter(View<const T, D> row_gradient, std::span<const std::int64_t> token, std::int64_t tokens);

 private:
  Tensor<T, D> rows_, row_gradient_, hidden_gradient_;
};

/// The sums of batches whose passes a device may still be running: read(HostReads&), then sums(). Batches are added in
/// their order.
template <class D>
class PendingSums {
 public:
  /// Results of one batch.
  struct Batch {
    std::vector<PendingHeadLoss<D>> losses;  // one, or one for each run of rows
    TokenBatch::Rows rows;                   // with spans
    PendingUse<D> use;
  };

  /// `spans`: rows are kept for StepSums::span_loss. `whole`: of a whole step, whose weights with spans hold the
  /// denominators, so that the loss's weight is 1.
  explicit PendingSums(bool spans = false, bool whole = false) : spans_(spans), whole_(whole) {}
  Batch& begin_batch() { return *batches_.emplace_back(std::make_unique<Batch>()); }
  bool empty() const { return batches_.empty(); }  // no row has a weight
  /// Queues the check of every row's loss (PendingHeadLoss::check).
  template <class L>
  void check(GradientFactor* factor) const {
    for (const std::unique_ptr<Batch>& batch : batches_)
      for (const PendingHeadLoss<D>& loss : batch->losses) loss.template check<L>(factor);
  }
  void read(HostReads<D>& reads);
  StepSums sums() const;
  /// The same, after a wait of its own.
  StepSums wait();

 private:
  bool spans_, whole_;
  std::vector<std::unique_ptr<Batch>> batches_;  // reads point to them
};

/// Adds the gradient of sum_rows weight * loss / total_weight(batches) to the student's trainable parameters (their
/// gradients are set to 0 first) and answers the sums. A weight of 0 leaves the gradients 0 and the student and teacher
/// unasked.
template <class Student, class Objective>
class GradientStep {
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;

 public:
  explicit GradientStep(GradientSettings settings = {}) : settings_(settings) {}

  StepSums operator()(Student& student, Objective& objective, std::span<const TokenBatch> batches);
  /// The same without waiting for the device: the gradients are queued, the sums are read later.
  PendingSums<D> queue(Student& student, Objective& objective, std::span<const TokenBatch> batches);

  /// The same for one rank's batches of a step whose weight over all ranks is `total` > 0: `taken(sums)` is called when
  /// the gradients of a batch are in the parameters. With `each_alone` they are set to 0 before every batch and behind
  /// the last, else only before the first.
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
