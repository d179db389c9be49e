// SPDX-License-Identifier: Apache-2.0
// A path where a metric sink belongs.
// expect: the second argument of run is not a MetricSink
#include "compile_fail/support/parts.hpp"

void train(kdlib::Trainer<Model, Batches, RightObjective, kdlib::AdamW, kdlib::ConstantRate>& trainer) {
#if defined(KDLIB_CORRECTED)
  (void)trainer;
#else
  trainer.run({.steps = 1}, "metrics.jsonl", kdlib::NoCheckpoints{});
#endif
}
