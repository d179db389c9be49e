// SPDX-License-Identifier: Apache-2.0
// Combines the sources of the three stages into one type, so that a program compiles only one trainer, and adds metrics
// of the device.
#ifndef KDLIB_TOOLS_REASONING_SOURCE_HPP
#define KDLIB_TOOLS_REASONING_SOURCE_HPP

#include <time.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/clock.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/data/rescored_mix.hpp"
#include "kdlib/data/scored_texts.hpp"
#include "kdlib/recipe/machines.hpp"
#include "kdlib/rollout/asynchronous.hpp"

KDLIB_NAMESPACE_BEGIN

/// A RolloutSource that wraps one of three sources, which are borrowed. Text that the student did not write gets
/// behaviour log-probabilities of 0; rows without a score do not read them.
template <class Model>
class ReasoningSource {
 public:
  ReasoningSource(IndexedDataset& plain, std::shared_ptr<ScoredTexts> scored)
      : plain_(&plain), scored_(std::move(scored)) {}
  ReasoningSource(RescoredMix& mix, std::shared_ptr<ScoredTexts> scored) : mix_(&mix), scored_(std::move(scored)) {}
  explicit ReasoningSource(AsynchronousRollouts<Model>& own) : own_(&own) {}

  std::optional<TokenBatch> next(Model& student) {
    if (own_ != nullptr) return own_->next(student);
    std::optional<TokenBatch> batch = plain_ != nullptr ? plain_->next() : mix_->next();
    scored_->begin_step(false);
    if (batch) batch->behaviour_log_probs.assign(batch->ids.size(), 0.0f);
    return batch;
  }
  SourceCursor cursor() const {
    return plain_ != nullptr ? plain_->cursor() : mix_ != nullptr ? mix_->cursor() : own_->cursor();
  }
  void seek(const SourceCursor& cursor) {
    if (plain_ != nullptr) plain_->seek(cursor);
    else if (mix_ != nullptr) mix_->seek(cursor);
    else own_->seek(cursor);
  }
  SourceDescription describe() const {
    return plain_ != nullptr ? plain_->describe() : mix_ != nullptr ? mix_->describe() : own_->describe();
  }
  void weigh_rows(std::span<TokenBatch> step) {
    if (mix_ != nullptr) mix_->weigh_rows(step);
  }
  /// Returns the metrics of the source, "device/busy_fraction" (CPU time of the process since the last call, divided by
  /// elapsed time and number of threads) and "device/free_bytes".
  std::vector<std::pair<std::string, double>> step_metrics() {
    std::vector<std::pair<std::string, double>> out;
    if (mix_ != nullptr) out = mix_->step_metrics();
    if (own_ != nullptr) out = own_->step_metrics();
    const double now = steady_seconds(), busy = detail::clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (now > since_) out.emplace_back("device/busy_fraction", (busy - busy_) / ((now - since_) * thread_count()));
    since_ = now;
    busy_ = busy;
    if (const double bytes = available_memory(); bytes > 0) out.emplace_back("device/free_bytes", bytes);
    return out;
  }

 private:
  IndexedDataset* plain_ = nullptr;
  RescoredMix* mix_ = nullptr;
  AsynchronousRollouts<Model>* own_ = nullptr;
  std::shared_ptr<ScoredTexts> scored_;
  double since_ = steady_seconds(), busy_ = detail::clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
};

KDLIB_NAMESPACE_END

#endif
