// SPDX-License-Identifier: Apache-2.0
// Bodies of training_run.hpp: a step whose micro-batches several ranks share. Every rank calls each function.
#ifndef KDLIB_TRAIN_TRAINING_RANKS_INL_HPP
#define KDLIB_TRAIN_TRAINING_RANKS_INL_HPP

#include <algorithm>

#include "kdlib/core/clock.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/train/step_metrics.hpp"
#include "kdlib/train/training_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Ranks that would not train the same thing are refused before anything is written.
template <class Types>
void TrainingRun<Types>::start_ranks() {
  if (!ranks_) return;
  AnyCommunicator& communicator = ranks_->communicator();
  if (!settings_.ranks.tree()) environment_.emplace_back("ranks", std::to_string(communicator.size()));
  if (communicator.size() == 1) return;
  SettingsList mine = list_;
  for (const auto& [key, value] : environment_)
    if (key == "program") mine.emplace_back(key, value);
  append_equal_settings(mine, settings_, context_.first_step);
  mine.emplace_back("the source's place", std::string(source_.cursor()));
  for (const Parameter<T, D>* p : trained_) {
    const std::vector<T> values = host_copy(std::as_const(p->value).view());
    mine.emplace_back("the checksum of " + p->name, hex_digits(xxh64(std::as_bytes(std::span(values)))));
  }
  check_equal_ranks(communicator, mine);
}

/// Passes over a batch of another rank; false at the end.
template <class Types>
bool TrainingRun<Types>::pass_batch() {
  if constexpr (SkippableSource<Source>) return source_.skip();
  else if constexpr (DataSource<Source>) return source_.next().has_value();
  else return false;  // refused by check_shareable
}

/// Takes the step's batches from the source: own ones are made, others passed over. Answers how many there are.
template <class Types>
std::int64_t TrainingRun<Types>::fetch_slices(bool& stop) {
  batches_.clear();
  std::int64_t slice = 0;
  try {
    check_stop();
    if (settings_.ranks.write_batch > 0)
      if constexpr (requires { source_.write_step(student_, slice, slice, ranks_->communicator()); })
        source_.write_step(student_, settings_.micro_batches, settings_.ranks.write_batch, ranks_->communicator());
    for (; slice < settings_.micro_batches; ++slice)
      if (!(ranks_->owns(slice) ? take_batch() : pass_batch())) break;
  } catch (const StopRequested&) {
    stop = true;
  }
  return slice;
}

/// The normaliser, in the order of slices, and whether any rank was asked to stop. Spans are weighed on the way.
template <class Types>
typename TrainingRun<Types>::Agreed TrainingRun<Types>::agree(bool stop) {
  const std::size_t spans = settings_.spans.size(), width = 2 + spans;
  std::vector<double> mine(static_cast<std::size_t>(ranks_->own_slices()) * width, 0.0);
  mine[0] = stop || stop_requested() ? 1 : 0;
  if (mine[0] == 0)
    for (std::size_t i = 0; i < batches_.size(); ++i) {
      mine[i * width + 1] = batches_[i].weight();
      if (!spans_) continue;
      const std::vector<double> sums = spans_->sums_of(batches_[i]);
      std::copy(sums.begin(), sums.end(), mine.begin() + static_cast<std::ptrdiff_t>(i * width + 2));
    }
  const std::vector<double> all = ranks_->gather_slices(mine, static_cast<std::int64_t>(width));
  Agreed agreed;
  std::vector<double> span_sums(spans, 0.0);
  for (std::size_t i = 0; i < all.size(); i += width) {
    agreed.stop = agreed.stop || all[i] != 0;
    agreed.total += all[i + 1];
    for (std::size_t s = 0; s < spans; ++s) span_sums[s] += all[i + 2 + s];
  }
  step_tokens_ = agreed.total;
  if (!spans_ || agreed.stop) return agreed;
  spans_->weigh_by(span_sums, batches_);
  weigh_by_source();
  std::vector<double> weights(static_cast<std::size_t>(ranks_->own_slices()), 0.0);
  for (std::size_t i = 0; i < batches_.size(); ++i) weights[i] = batches_[i].weight();
  agreed.total = 0;
  for (const double weight : ranks_->gather_slices(weights, 1)) agreed.total += weight;
  return agreed;
}

template <class Types>
RankedSums TrainingRun<Types>::ranked_gradient(double total, double source_seconds) {
  RankTimes times{source_seconds, steady_seconds(), 0};
  std::vector<StepSums> mine;
  gradient_.slices(student_, objective_, batches_, total, ranks_->tree(), [&](const StepSums& sums) {
    mine.push_back(sums);
    ranks_->take_slice();
  });
  for (auto i = static_cast<std::int64_t>(batches_.size()); i < ranks_->own_slices(); ++i)
    ranks_->take_slice();  // none
  for (const TokenBatch& batch : batches_) times.tokens += static_cast<double>(batch.tokens());
  times.gradient_seconds = steady_seconds() - times.gradient_seconds;
  RankedSums all = ranks_->gather_sums(mine, times);
  if (spans_) all.sums.loss.weight = 1;  // the weights hold the denominators
  return all;
}

template <class Types>
bool TrainingRun<Types>::take_ranked_step() {
  StepTimes times;
  times.begin = steady_seconds();
  const SourceCursor before = place();
  bool stop = false;
  const std::optional<std::int64_t> fetched = take_fetched();
  const std::int64_t slices = fetched ? *fetched : fetch_slices(stop);
  times.fetched = steady_seconds();
  const StopScope shield(nullptr);  // one rank must not leave a step that others take
  const Agreed agreed = agree(stop);
  if (agreed.stop) {
    give_back(before);
    throw StopRequested("stopped on request");
  }
  if (slices == 0) return false;
  fetch_ahead(before);
  RankedSums all;
  double norm = 0, reduce_seconds = 0;
  if (agreed.total > 0) {
    all = ranked_gradient(agreed.total, times.fetched - times.begin);
    reduce_seconds = -steady_seconds();
    norm = ranks_->reduce();
    reduce_seconds += steady_seconds();
  }
  rank_values_ = rank_values(all, reduce_seconds);
  end_step(all.sums, norm, clip_factor(norm, settings_.clip_norm), times);
  return true;
}

/// The first rank's answers: another rank's may differ in their last bits where its processor does.
template <class Types>
Evaluation TrainingRun<Types>::evaluation_of_first(Evaluation mine) {
  if (!ranks_ || ranks_->communicator().size() == 1) return mine;
  return first_evaluation(ranks_->communicator(), mine);
}

template <class Types>
std::string TrainingRun<Types>::text_of_first(std::string mine) {
  if (!ranks_ || ranks_->communicator().size() == 1) return mine;
  const Bytes bytes = ranks_->communicator().broadcast_bytes(BytePacker().add(std::string_view(mine)).take());
  return ByteUnpacker(bytes).text();
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
