// SPDX-License-Identifier: Apache-2.0
// Everything that a run must find again to go on as if it had never stopped.
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

/// A tensor's bytes on the host. `data` is shared: with a live tensor while saving, with a mapped file after loading.
struct HostTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::shared_ptr<const void> data;
  std::size_t bytes = 0;
};

/// Steps are counted over the whole run (all stages of a pipeline) and mean "done": a state of step 20 has seen 20
/// updates. Random numbers need no state: they are functions of seed and position (core/rng.hpp), and the seeds are
/// among the settings.
struct TrainState {
  std::string stage;            // empty outside a pipeline
  std::int64_t first_step = 0;  // where the stage began
  bool finished = false;        // the stage has taken all its steps, has the reason below, or its source has ended
  std::string finish_reason;    // of RunHooks::finish_reason; empty: none
  std::int64_t step = 0;
  std::int64_t skipped_steps = 0;  // of weight 0
  std::int64_t optimizer_steps = 0;
  double tokens = 0;            // weight of all rows trained on
  double seconds = 0;           // spent in run(), all attempts together
  double loss = 0;              // of the last step
  std::int64_t best_step = -1;  // -1: no evaluation has chosen one
  double best_value = 0;
  std::int64_t evaluated_step = -1;  // newest step whose evaluation is complete
  bool evaluation_pending = false;   // this step's evaluation was due and was cut short by a request to stop
  std::string source_cursor;
  SettingsList settings;     // must be equal in a resumed run
  SettingsList environment;  // a difference is reported: results may then differ in the last bits
  std::vector<HostTensor> parameters;
  std::vector<HostTensor> moments;  // the optimizer's tensors
};

/// A leg's place in a pipeline; the default is a run on its own.
struct StageContext {
  std::string name{};
  std::int64_t first_step = 0;         // steps of the stages before
  std::vector<std::string> carried{};  // parameters that are saved here too, or what earlier stages made would be lost
  std::string cursor{};                // where the stage before left its source; empty: there was none
};

KDLIB_NAMESPACE_END

#endif
