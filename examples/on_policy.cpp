// SPDX-License-Identifier: Apache-2.0
// On-policy distillation: the student writes, the teacher marks every token (reverse KL).
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>

namespace kd = kdlib;

template <class Device, class Scalar>
void on_policy(const kd::Args& args) {
  using Model = kd::Decoder<Device, Scalar>;
  const std::int64_t steps = args.count("steps");
  auto teacher = Model::from_pretrained(args["teacher"]);
  auto student = Model::from_pretrained(args["student"]);
  kd::add_lora(student, {.rank = 32, .alpha = 64, .targets = kd::all_linear});

  const auto tokenizer = kd::Tokenizer::from_pretrained(args["student"]);
  kd::OnPolicy rollouts{kd::Prompts{args["prompts"], tokenizer},
                        kd::Sampler{.temperature = 1.0f, .max_new_tokens = 512},
                        {.prompts = 16, .samples = 4, .seed = 1}};

  kd::Trainer trainer{student, rollouts, kd::Objective{kd::LiveTeacher{teacher}, kd::ReverseKl{}},
                      kd::AdamW{.weight_decay = 0.0}, kd::ConstantRate{1e-4}};
  trainer.run({.steps = steps, .save_every = 25}, kd::JsonLines{args["out"] + "/metrics.jsonl"},
              kd::Directory{args["out"]});
  kd::save_adapter(student, args["out"]);
}

int main(int argc, char** argv) try {
  on_policy<kd::Cpu, float>(
      {argc, argv, {"teacher", "student", "prompts", "steps", "out"}});  // 150 steps are a good start
} catch (const kd::Error& error) {
  return kd::report(error);
}
