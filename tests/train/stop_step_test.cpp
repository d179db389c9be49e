// SPDX-License-Identifier: Apache-2.0
// A request to stop in the middle of a step: the step is given back, and the run that goes on ends as an undisturbed
// one.
#include <atomic>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/training_parts.hpp"

namespace {
using kdlib_tests::RaggedDocuments;
using kdlib_tests::TemporaryDirectory;
using Teacher = kdlib_tests::TestTeacher<kdlib_tests::ToyModel<float>>;

/// A student that asks for the stop when its training pass number `at` (from 1) begins.
struct StoppingModel : kdlib_tests::ToyModel<float> {
  using Base = kdlib_tests::ToyModel<float>;
  StoppingModel(std::atomic<bool>& flag, int number) : Base{17, 4, 2}, stop(flag), at(number) {}

  kdlib::Tensor<float, kdlib::Cpu> forward_training(const kdlib::TokenBatch& batch) {
    if (++passes == at) stop = true;
    return Base::forward_training(batch);
  }

  std::atomic<bool>& stop;
  int at, passes = 0;
};

kdlib::RunResult run(const TemporaryDirectory& dir, int at) {
  std::atomic<bool> stop{false};
  const kdlib::StopScope scope(&stop);
  kdlib_tests::ToyModel<float> teacher{17, 6, 1};
  StoppingModel student(stop, at);
  kdlib::Trainer trainer{student, RaggedDocuments{{}}, kdlib::Objective{Teacher{teacher}, kdlib::ForwardKl{}},
                         kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  return trainer.run({.steps = 4, .micro_batches = 2, .save_every = 2, .keep = 1},
                     kdlib::JsonLines{dir / "metrics.jsonl"}, kdlib::Directory{dir.path()});
}
}  // namespace

TEST_CASE("a stop in the middle of a step gives the step back, and the next run takes it again", "[train]") {
  const TemporaryDirectory whole;
  CHECK(run(whole, 0).finished);
  for (int at = 1; at <= 8; ++at) {  // both micro-batches of all four steps
    CAPTURE(at);
    const TemporaryDirectory dir;
    const kdlib::RunResult stopped = run(dir, at);
    CHECK(stopped.stopped);
    CHECK_FALSE(stopped.finished);
    CHECK(stopped.step == (at - 1) / 2);
    CHECK(run(dir, 0).finished);
    CHECK(kdlib_tests::differences(kdlib_tests::run_files(dir.path()), kdlib_tests::run_files(whole.path())) == "");
  }
}
