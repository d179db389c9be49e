// SPDX-License-Identifier: Apache-2.0
// What a trainer asks of a student, a place for metrics and a place for checkpoints. What it asks of data, rollouts,
// teachers, optimizers and schedules stands in the concepts.hpp of those folders, which this header brings along.
#ifndef KDLIB_TRAIN_CONCEPTS_HPP
#define KDLIB_TRAIN_CONCEPTS_HPP

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/data/concepts.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/optim/concepts.hpp"
#include "kdlib/rollout/concepts.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/train/state.hpp"

KDLIB_NAMESPACE_BEGIN

/// A run that cannot go on: a loss or gradient that is not finite. The message names the step and what to try.
class TrainingError : public Error {
 public:
  using Error::Error;
};

/// A model that can learn. forward gives hidden states [N, H] before the head; forward_training does the same and
/// records; backward takes their gradient [N, H] and adds to the parameters' gradients; the head is split off, so that
/// [N, V] never exists. head_parameter() is the one to which the loss adds the head's gradient, or nullptr when the
/// head is frozen.
template <class M>
concept LanguageModel = requires(M& model, const M& constant, const TokenBatch& batch) {
  typename M::device_type;
  typename M::scalar_type;
  { constant.vocab_size() } -> std::convertible_to<std::int64_t>;
  { constant.hidden_size() } -> std::convertible_to<std::int64_t>;
  {
    model.parameters()
    } -> std::convertible_to<std::vector<Parameter<typename M::scalar_type, typename M::device_type>*>>;
  {model.forward(batch).view()};
  {model.forward_training(batch).view()};
  model.backward(View<const typename M::scalar_type, typename M::device_type>{});
  {constant.head()};
  { model.head_parameter() } -> std::convertible_to<Parameter<typename M::scalar_type, typename M::device_type>*>;
};

/// Where numbers of a run go. Scalars of one step come one after the other; the flush() that follows ends the step and
/// makes it last. flush() is called only behind scalars. An evaluation before the first step has step 0. If the source
/// ends early, the last evaluation adds scalars to the last step, with a flush() of their own.
/// A sink may also have rewind(step), which a run calls once before its first scalar: everything behind that step is
/// forgotten (a resumed run writes it again). A run from the beginning calls rewind(-1): everything is forgotten.
template <class S>
concept MetricSink = requires(S& sink, std::string_view name, std::int64_t step, double value) {
  sink.scalar(name, step, value);
  sink.flush();
};

/// Where the state of a run goes. save() returns when the state is safe; latest() is the newest complete one.
template <class S>
concept CheckpointStore = requires(S& store, const TrainState& state) {
  store.save(state);
  { store.latest() } -> std::same_as<std::optional<TrainState>>;
};

/// One leg of a pipeline.
template <class S, class Sink, class Store>
concept Stage = requires(S& stage, Sink& sink, Store& store, const StageContext& context) {
  { stage.name() } -> std::convertible_to<std::string>;
  stage.run(context, sink, store);
};

KDLIB_NAMESPACE_END

#endif
