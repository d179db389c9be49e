// SPDX-License-Identifier: Apache-2.0
// What a trainer requires of a student, of a place for metrics and of a place for checkpoints. The requirements for
// data, rollouts, teachers, optimizers and schedules are in the files concepts.hpp of their folders, which this header
// includes.
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

/// Thrown if a run cannot go on because a loss or a gradient is not finite. The message names the step and what to try.
class TrainingError : public Error {
 public:
  using Error::Error;
};

/// A model that can learn. forward() returns the hidden states [N, H] of N tokens in front of the head.
/// forward_training() does the same and records what the backward pass needs. backward() takes the gradient [N, H] of
/// the hidden states and adds to the gradients of the parameters. The head (the last matrix) is applied by the loss, so
/// that logits [N, V] never exist as a whole. head_parameter() returns the parameter to which the loss adds the
/// gradient of the head, or nullptr if the head is frozen.
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

/// A place for the numbers of a run. The scalars of one step come one after the other. The flush() after them ends the
/// step, and all scalars before flush() must then be safe. flush() is called only after scalars. An evaluation before
/// the first step has step 0. If the source ends early, the last evaluation adds scalars to the last step, with a
/// flush() of their own.
/// A sink may also have rewind(step). The trainer calls it before the first step: the sink forgets every scalar behind
/// `step`, because the run writes these scalars again. `step` is -1 in a run from the beginning, and the step of the
/// checkpoint in a resumed run.
template <class S>
concept MetricSink = requires(S& sink, std::string_view name, std::int64_t step, double value) {
  sink.scalar(name, step, value);
  sink.flush();
};

/// A place for the state of a run. save() returns when the state is stored safely; latest() returns the newest complete
/// state.
template <class S>
concept CheckpointStore = requires(S& store, const TrainState& state) {
  store.save(state);
  { store.latest() } -> std::same_as<std::optional<TrainState>>;
};

/// One stage of a pipeline (train/stage.hpp).
template <class S, class Sink, class Store>
concept Stage = requires(S& stage, Sink& sink, Store& store, const StageContext& context) {
  { stage.name() } -> std::convertible_to<std::string>;
  stage.run(context, sink, store);
};

KDLIB_NAMESPACE_END

#endif
