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

TEST_CASE("drawing tokens waits once a step of decoding, whatever the number of rows", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  auto model = Decoder<Cuda, float>::from_config(golden_config(Family::qwen2), 1);
  const auto waits = [&](std::int64_t tokens) {
    return waits_of([&] {
      generate(model, {{1, 2, 3}, {4, 5}, {6}}, Sampler{.max_new_tokens = tokens}, GenerateSettings{.batch = 3});
    });
  };
  const std::int64_t short_text = waits(2), long_text = waits(6);
  INFO(short_text << " and " << long_text);
  CHECK(long_text - short_text == 4);
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
