// SPDX-License-Identifier: Apache-2.0
// Everything that a run must store to be continued as if it had never stopped.
#ifndef KDLIB_TRAIN_STATE_HPP
#define KDLIB_TRAIN_STATE_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/shape.hpp"
#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The bytes of a tensor on the host. `data` shares its memory: with a live tensor while saving, with a mapped file
/// after loading.
struct HostTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::shared_ptr<const void> data;
  std::size_t bytes = 0;
};

/// The state of a run. Steps are counted over the whole run (all stages of a pipeline) and are the number of steps
/// done: at step 20, 20 steps have been taken. Random numbers need no state, because they are functions of seed and
/// position (core/rng.hpp) and the seeds are part of the settings.
struct TrainState {
  std::string stage;            // name of the stage; empty outside a pipeline
  std::int64_t first_step = 0;  // step at which the stage began
  bool finished = false;        // the stage has taken all its steps, its source ended, or it has a finish_reason
  std::string finish_reason;    // the sentence of RunHooks::finish_reason; empty: none
  std::int64_t step = 0;
  std::int64_t skipped_steps = 0;  // steps without a row of weight above 0
  std::int64_t optimizer_steps = 0;
  double tokens = 0;            // sum of the weights of all rows trained on
  double seconds = 0;           // time spent in run(), all attempts together
  double loss = 0;              // loss of the last step
  std::int64_t best_step = -1;  // step of the best state; -1: no evaluation has chosen one
  double best_value = 0;
  std::int64_t evaluated_step = -1;  // newest step whose evaluation is complete; -1: none
  bool evaluation_pending = false;   // the evaluation of this step was due, but a request to stop interrupted it
  std::string source_cursor;
  SettingsList settings;     // settings that must be equal in a resumed run
  SettingsList environment;  // a difference is reported: results may then differ in the last bits
  std::vector<HostTensor> parameters;
  std::vector<HostTensor> moments;  // the optimizer's tensors
};

/// The place of a stage in a pipeline. The default stands for a run outside a pipeline.
struct StageContext {
  std::string name{};
  std::int64_t first_step = 0;         // number of steps of the stages before
  std::vector<std::string> carried{};  // parameters of earlier stages that checkpoints must hold, too
  std::string cursor{};                // place where the stage before left its source; empty: there was no stage before
};

KDLIB_NAMESPACE_END

#endif
