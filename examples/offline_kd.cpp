// SPDX-License-Identifier: Apache-2.0
// Offline distillation: a student learns from teacher top-k log-probabilities that were cached on disk.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>

namespace kd = kdlib;

template <class Device, class Scalar>
void offline_kd(const kd::Args& args) {
  auto student = kd::Decoder<Device, Scalar>::from_pretrained(args["student"]);
  const auto cache = kd::TopKCache::open(args["cache"]);

  kd::Trainer trainer{
      student, kd::PackedDataset{cache.tokens(), {.batch = 8, .length = 1024, .seed = 1}},
      kd::Objective{kd::CachedTeacher<Device, Scalar>{cache},
                    kd::Sum{kd::Term{0.9, kd::TopKForwardKl{.temperature = 2.0f}}, kd::Term{0.1, kd::CrossEntropy{}}}},
      kd::AdamW{.beta2 = 0.95, .weight_decay = 0.1}, kd::WarmupCosine{.peak = 3e-4, .warmup = 100, .total = 2000}};

  trainer.run({.steps = 2000, .micro_batches = 4, .clip_norm = 1.0, .save_every = 200},
              kd::JsonLines{args["out"] + "/metrics.jsonl"}, kd::Directory{args["out"]});
  student.save_pretrained(args["out"]);
}

int main(int argc, char** argv) try {
  offline_kd<kd::Cpu, float>(
      {argc, argv, {"student", "cache", "out"}});  // or kd::Cuda with <kdlib/backend/cuda.hpp>; nothing else changes
} catch (const kd::Error& error) {
  return kd::report(error);
}
