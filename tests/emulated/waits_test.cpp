// SPDX-License-Identifier: Apache-2.0
// How often the host waits for the device.
#include "cuda/decoders.hpp"
#include "cuda/kernel_cases.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/rollout/generate.hpp"
#include "model/golden.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

template <class F>
std::int64_t waits_of(F&& work) {
  const std::int64_t before = emulated_counts().waits;
  work();
  return emulated_counts().waits - before;
}

}  // namespace

TEST_CASE("the norm of all gradients waits for the device once", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  auto model = Decoder<Cuda, float>::from_config(golden_config(Family::qwen2), 1);
  const auto parameters = model.parameters();
  REQUIRE(parameters.size() > 10);
  double sum = 0;
  for (Parameter<float, Cuda>* p : parameters) {
    p->gradient = Tensor<float, Cuda>(p->value.shape());
    Memory<Cuda>::copy(p->gradient.data(), p->value.data(), static_cast<std::size_t>(p->value.count()) * sizeof(float));
    sum += Kernels<Cuda, float>::sum_squares(p->gradient.data(), p->gradient.count());
  }
  double norm = 0;
  CHECK(waits_of([&] { norm = gradient_norm(parameters); }) == 1);
  CHECK(norm == std::sqrt(sum));
}

TEST_CASE("decoding waits once in eight steps, whatever the number of rows", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  auto model = Decoder<Cuda, float>::from_config(golden_config(Family::qwen2), 1);
  const auto waits = [&](std::int64_t tokens) {
    return waits_of([&] {
      generate(model, {{1, 2, 3}, {4, 5}, {6}}, Sampler{.max_new_tokens = tokens}, GenerateSettings{.batch = 3});
    });
  };
  CHECK(waits(1) == 1);
  CHECK(waits(9) == 2);
  CHECK(waits(25) == 4);
  CHECK(waits(27) == 5);  // the two that are left, together
}

TEST_CASE("texts on CUDA do not depend on tokens that were written for nothing", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  const DecoderConfig config = golden_config(Family::qwen2);
  auto there = Decoder<Cuda, float>::from_config(config, 1);
  auto here = Decoder<Cpu, float>::from_config(config, 1);
  std::vector<std::vector<std::int32_t>> prompts;
  for (std::int32_t i = 0; i < 7; ++i)
    prompts.push_back(std::vector<std::int32_t>(static_cast<std::size_t>(1 + i % 3), i + 1));
  Sampler sampler{.max_new_tokens = 21, .seed = 3};
  for (std::int32_t id = 0; id < config.vocab_size; id += 9) sampler.stop_ids.push_back(id);  // texts end early
  // Two replies behind a stop, so that sequences go on in the middle of eight steps.
  GenerateSettings settings{.batch = 3};
  settings.reply_tokens = 6;
  settings.reply = [](std::size_t request, const Completion& c) {
    const auto given = std::count(c.given.begin(), c.given.end(), std::uint8_t{1});
    return request % 2 == 0 && given < 6 ? std::vector<std::int32_t>{1, 2, 3} : std::vector<std::int32_t>{};
  };
  const auto a = generate(there, prompts, sampler, settings), b = generate(here, prompts, sampler, settings);
  REQUIRE(a.size() == b.size());
  std::int64_t stopped = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].ids == b[i].ids);
    CHECK(a[i].stopped == b[i].stopped);
    CHECK(a[i].given == b[i].given);
    REQUIRE(a[i].log_probs.size() == b[i].log_probs.size());
    for (std::size_t t = 0; t < a[i].log_probs.size(); ++t)
      CHECK(std::fabs(a[i].log_probs[t] - b[i].log_probs[t]) < 1e-4f);
    stopped += a[i].stopped;
  }
  CHECK(stopped > 0);
  CHECK(stopped < 7);
}

TEST_CASE("what a training step waits for does not grow with parameters, rows or layers", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  // Of each micro-batch the rows' results and, of mixtures, what the routers chose; then the norm.
  for (const auto& [family, of_each] : {std::pair{Family::qwen2, 1}, std::pair{Family::qwen3_moe, 2}}) {
    const DecoderConfig config = golden_config(family);
    using Model = Decoder<Cuda, float>;
    Model teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);
    teacher.set_trainable(false);
    const auto waits = [&](std::int64_t steps) {
      Trainer trainer{student, RaggedDocuments{{.vocabulary = config.vocab_size, .seed = 5}},
                      Objective{LiveTeacher{teacher}, ForwardKl{}}, AdamW{}, ConstantRate{1e-3}};
      return waits_of([&] { trainer.run({.steps = steps, .micro_batches = 2}, NoMetrics{}, NoCheckpoints{}); });
    };
    const std::int64_t one = waits(1), three = waits(3);
    INFO(one << " and " << three);
    CHECK(three - one == 2 * (2 * of_each + 1));
  }
}
