// SPDX-License-Identifier: Apache-2.0
// Offline distillation: a student learns from teacher top-k log-probabilities that were cached on disk (cache_logits).
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/checkpoint/save_model.hpp>

namespace kd = kdlib;

template <class Device, class Scalar>
void offline_kd(const kd::Args& args) {
  const std::int64_t steps = args.count("steps");
  auto student = kd::Decoder<Device, Scalar>::from_pretrained(args["student"]);
  const auto cache = kd::TopKCache::open(args["cache"]);

  kd::Trainer trainer{
      student, kd::DocumentDataset{cache.tokens(), {.batch = 8, .seed = 1}},
      kd::Objective{kd::CachedTeacher<Device, Scalar>{cache, {.temperature = 2}},
                    kd::Sum{kd::Term{0.9, kd::TopKForwardKl{.temperature = 2.0f}}, kd::Term{0.1, kd::CrossEntropy{}}}},
      kd::AdamW{.beta2 = 0.95, .weight_decay = 0.1},
      kd::WarmupCosine{.peak = 3e-4, .warmup = steps / 20, .total = steps}};

  trainer.run({.steps = steps, .micro_batches = 4, .clip_norm = 1.0, .save_every = 200},
              kd::JsonLines{args["out"] + "/metrics.jsonl"}, kd::Directory{args["out"]});
  kd::save_model(student, args["out"], args["student"]);  // with the tokenizer
}

int main(int argc, char** argv) try {
  offline_kd<kd::Cpu, float>({argc, argv, {"student", "cache", "steps", "out"}});  // or kd::Cuda: nothing else changes
} catch (const kd::Error& error) {
  return kd::report(error);
}
