// SPDX-License-Identifier: Apache-2.0
// The trainer on CUDA: the losses and norms of the same run on the CPU, and equal bytes in two runs.
#include "cuda/decoders.hpp"
#include "cuda/kernel_cases.hpp"
#include "model/golden.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

struct Run {
  std::vector<double> losses, norms;
  std::vector<float> values;  // of every parameter, at the end
};

/// Four steps of a random student against a random teacher of the same family.
template <class D, class T = float>
Run train(Family family) {
  const DecoderConfig config = golden_config(family);
  using Model = Decoder<D, T>;
  Model teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);
  teacher.set_trainable(false);
  Trainer trainer{student, RaggedDocuments{{.vocabulary = config.vocab_size, .seed = 5}},
                  Objective{LiveTeacher{teacher}, ForwardKl{}}, AdamW{.weight_decay = 0.1}, ConstantRate{1e-2}};
  MemoryMetrics metrics;
  trainer.run({.steps = 4, .micro_batches = 2, .clip_norm = 0.5}, metrics);
  Run out;
  for (const auto& [step, loss] : metrics.series("train/loss")) out.losses.push_back(loss);
  for (const auto& [step, norm] : metrics.series("train/grad_norm")) out.norms.push_back(norm);
  for (Parameter<T, D>* p : student.parameters()) {
    REQUIRE(static_cast<bool>(p->master) == is_sixteen_bit<T>);
    const std::vector<float> values = host_copy(View<const float, D>(p->trained_values()));
    out.values.insert(out.values.end(), values.begin(), values.end());
    const std::vector<T> rounded = host_copy(View<const T, D>(p->value));
    for (std::size_t i = 0; i < values.size(); ++i) REQUIRE(rounded[i] == static_cast<T>(values[i]));
  }
  return out;
}

}  // namespace

TEST_CASE("training in bf16 on CUDA stays within 2 % of the losses in float on the CPU, with equal bytes twice",
          "[cuda][bf16]") {
  KDLIB_NEEDS_DEVICE();
  const Run want = train<Cpu>(Family::qwen2), got = train<Cuda, bf16>(Family::qwen2),
            again = train<Cuda, bf16>(Family::qwen2);
  REQUIRE(got.losses.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    CHECK(std::abs(got.losses[i] / want.losses[i] - 1) < 2e-2);
    CHECK(std::abs(got.norms[i] / want.norms[i] - 1) < 5e-2);
  }
  CHECK(std::memcmp(got.values.data(), again.values.data(), got.values.size() * sizeof(float)) == 0);
  CHECK(got.losses == again.losses);
}

TEST_CASE("training on CUDA gives the CPU's losses and norms, and equal bytes twice", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  for (const Family family : {Family::qwen2, Family::qwen3_moe}) {
    const Run want = train<Cpu>(family), got = train<Cuda>(family), again = train<Cuda>(family);
    REQUIRE(want.losses.size() == 4);
    REQUIRE(got.losses.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(i);
      CHECK(std::abs(got.losses[i] / want.losses[i] - 1) < 1e-4);
      CHECK(std::abs(got.norms[i] / want.norms[i] - 1) < 1e-3);
    }
    CHECK(std::memcmp(got.values.data(), again.values.data(), got.values.size() * sizeof(float)) == 0);
    CHECK(got.losses == again.losses);
  }
}
