// SPDX-License-Identifier: Apache-2.0
// A place for checkpoints that cannot give one back.
// expect: the third argument of run is not a CheckpointStore (save(state), latest())
#include "compile_fail/support/parts.hpp"

struct WriteOnly {
  void save(const kdlib::TrainState&) {}
};
using Right = kdlib::Trainer<Model, Batches, RightObjective, kdlib::AdamW, kdlib::ConstantRate>;
#if defined(KDLIB_CORRECTED)
static_assert(kdlib::CheckpointStore<kdlib::Directory> && kdlib::CheckpointStore<kdlib::NoCheckpoints> &&
              !kdlib::CheckpointStore<WriteOnly>);
#else
void run(Right& trainer, WriteOnly& store) { trainer.run({.steps = 1}, kdlib::NoMetrics{}, store); }
#endif
