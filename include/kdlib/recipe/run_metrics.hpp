// SPDX-License-Identifier: Apache-2.0
// Writes the numbers of a run into its metrics.jsonl and, if they are wanted, into TensorBoard's event files.
#ifndef KDLIB_RECIPE_RUN_METRICS_HPP
#define KDLIB_RECIPE_RUN_METRICS_HPP

#include <optional>
#include <string>
#include <string_view>

#include "kdlib/train/metrics.hpp"
#include "kdlib/train/tensorboard.hpp"

KDLIB_NAMESPACE_BEGIN

/// The metric sink of a run.
class RunMetrics {
 public:
  /// `lines` is the path of metrics.jsonl. `events` is the folder of TensorBoard's files; empty for none. Throws
  /// IoError as the two sinks do.
  RunMetrics(const std::string& lines, const std::string& events) : lines_(lines) {
    if (!events.empty()) events_.emplace(events);
  }

  void scalar(std::string_view name, std::int64_t step, double value) {
    lines_.scalar(name, step, value);
    if (events_) events_->scalar(name, step, value);
  }
  void flush() {
    lines_.flush();
    if (events_) events_->flush();
  }
  void rewind(std::int64_t step) {
    lines_.rewind(step);
    if (events_) events_->rewind(step);
  }

 private:
  JsonLines lines_;
  std::optional<TensorBoardEvents> events_;
};

KDLIB_NAMESPACE_END

#endif
