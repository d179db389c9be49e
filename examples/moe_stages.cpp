// SPDX-License-Identifier: Apache-2.0
// A mixture-of-experts student in three stages: router, experts, then on-policy. A rerun resumes at the open stage.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/checkpoint/save_model.hpp>

namespace kd = kdlib;

template <class D, class T>
void moe_stages(const kd::Args& args) {
  using Model = kd::Decoder<D, T>;
  const std::int64_t steps = args.count("steps");  // of the experts' stage
  auto teacher = Model::from_pretrained(args["dense"]);
  auto student =
      kd::upcycle(Model::from_pretrained(args["dense"]), {.experts = 8, .active = 2, .balance_weight = 1e-2});

  const auto tokenizer = kd::Tokenizer::from_pretrained(args["dense"]);
  const kd::Prompts prompts{args["prompts"], tokenizer};
  kd::TeacherWritten written{teacher, prompts, kd::Sampler{}, {.prompts = 8}};
  kd::OnPolicy rollouts{prompts, kd::Sampler{.max_new_tokens = 256}, {.prompts = 16}};
  const kd::Objective objective{kd::LiveTeacher{teacher}, kd::ForwardKl{}};

  kd::Trainer router{student, written, objective, kd::AdamW{}, kd::ConstantRate{1e-3}};
  kd::Trainer experts{student, written, objective, kd::AdamW{.weight_decay = 0.1},
                      kd::WarmupCosine{.peak = 3e-4, .warmup = steps / 50, .total = steps}};
  kd::Trainer on_policy{student, rollouts, objective, kd::AdamW{}, kd::ConstantRate{1e-5}};
  kd::Pipeline stages{kd::TrainStage{"router", router, {.steps = steps / 10 + 1}, kd::only("*.mlp.gate.weight")},
                      kd::TrainStage{"experts", experts, {.steps = steps, .micro_batches = 4}, kd::only("*.mlp.*")},
                      kd::TrainStage{"on_policy", on_policy, {.steps = steps / 20 + 1}, kd::everything()}};
  stages.run(kd::JsonLines{args["out"] + "/metrics.jsonl"}, kd::Directory{args["out"]});
  kd::save_model(student, args["out"], args["dense"]);  // with the tokenizer
}

int main(int argc, char** argv) try {
  moe_stages<kd::Cpu, float>({argc, argv, {"dense", "prompts", "steps", "out"}});
} catch (const kd::Error& error) {
  return kd::report(error);
}
