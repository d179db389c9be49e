// SPDX-License-Identifier: Apache-2.0
// Bodies of training_run.hpp: batches that are fetched, and announced to the teacher, before their step.
#ifndef KDLIB_TRAIN_TRAINING_AHEAD_INL_HPP
#define KDLIB_TRAIN_TRAINING_AHEAD_INL_HPP

#include <utility>

#include "kdlib/train/training_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A source that says which batches do not depend on the student.
template <class Source>
concept TellsGivenText = DataSource<Source> || requires(const Source& source) {
  { source.next_is_student_written() } -> std::same_as<bool>;
};

/// Where the source stands for the steps that were taken: what was fetched ahead does not count.
template <class Types>
SourceCursor TrainingRun<Types>::place() const {
  return ahead_.empty() ? SourceCursor(source_.cursor()) : ahead_.front().before;
}

template <class Types>
void TrainingRun<Types>::give_back(const SourceCursor& before) {
  ahead_.clear();
  source_.seek(before);
}

/// Whether the source's next batch is the same whatever the student learns until then, and a step of this run.
template <class Types>
bool TrainingRun<Types>::may_fetch_ahead() const {
  const auto there = static_cast<std::int64_t>(ahead_.size());
  if (there >= settings_.teacher_ahead || step_ + 1 + there >= last_step()) return false;
  if constexpr (DataSource<Source>) return true;
  else if constexpr (TellsGivenText<Source>) return !source_.next_is_student_written();
  else return false;
}

/// Makes what was fetched for this step its batches and answers how many slices all ranks have; nothing: fetch it now.
template <class Types>
std::optional<std::int64_t> TrainingRun<Types>::take_fetched() {
  if (ahead_.empty()) return std::nullopt;
  batches_ = std::move(ahead_.front().batches);
  const std::int64_t slices = ahead_.front().slices;
  ahead_.erase(ahead_.begin());
  return slices;
}

/// `before`: the place in front of this step, to which a request to stop goes back.
template <class Types>
void TrainingRun<Types>::fetch_ahead(const SourceCursor& before) {
  std::vector<TokenBatch> now = std::move(batches_);
  try {
    while (may_fetch_ahead()) {
      SourceCursor place = source_.cursor();
      bool stop = false;
      const std::int64_t slices = ranks_ ? fetch_slices(stop) : fetch() ? settings_.micro_batches : 0;
      if (slices == 0) break;
      ahead_.push_back({std::move(batches_), slices, std::move(place)});
    }
  } catch (const StopRequested&) {
    give_back(before);
    throw;
  }
  batches_ = std::move(now);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
