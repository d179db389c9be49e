// SPDX-License-Identifier: Apache-2.0
// A dry run counts what a device's arena would hold, byte for byte, and does nothing else.
#include "cuda/decoders.hpp"
#include "cuda/kernel_cases.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/rollout/generate.hpp"
#include "model/golden.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

using DryRun = Memory<Cuda>::DryRun;

/// What the same work takes when it is done and when it is counted. Both begin with nothing in use.
template <class F>
void check_counted(F&& work) {
  reset_emulated_arena();
  REQUIRE(emulated_arena().reserved == 0);
  work();
  const CountedMemory done = emulated_arena();
  const EmulatedCounts before = emulated_counts();
  const std::int64_t used = memory_use<Cuda>().now.load();
  CountedMemory counted;
  {
    const DryRun dry;
    work();
    counted = dry.counted();
  }
  CHECK(done.peak > 0);
  CHECK(counted.peak == done.peak);
  CHECK(counted.reserved == done.reserved);
  CHECK(counted.used == done.used);
  CHECK(emulated_counts().launches == before.launches);
  CHECK(emulated_counts().products == before.products);
  CHECK(emulated_counts().copies == before.copies);
  CHECK(emulated_counts().allocated == before.allocated);
  CHECK(memory_use<Cuda>().now.load() == used);
}

/// Three steps of a student against a teacher of the same family.
template <class T>
void train(Family family, bool lora, bool recompute) {
  const DecoderConfig config = golden_config(family);
  using Model = Decoder<Cuda, T>;
  Model teacher = Model::from_config(config, 1), student = Model::from_config(config, 2);
  teacher.set_trainable(false);
  if (lora) {
    student.set_trainable(false);
    add_lora(student, LoraSettings{.rank = 4});
  }
  Trainer trainer{student, RaggedDocuments{{.vocabulary = config.vocab_size, .seed = 5}},
                  Objective{LiveTeacher{teacher}, ForwardKl{}}, AdamW{}, ConstantRate{1e-3}};
  trainer.run({.steps = 3, .micro_batches = 2, .clip_norm = 1, .recompute = recompute}, NoMetrics{}, NoCheckpoints{});
}

}  // namespace

TEST_CASE("the memory of a training step is counted byte for byte", "[cuda]") {
  for (const bool lora : {false, true})
    for (const bool recompute : {false, true}) {
      CAPTURE(lora, recompute);
      check_counted([&] { train<float>(Family::qwen2, lora, recompute); });
      check_counted([&] { train<bf16>(Family::qwen2, lora, recompute); });
    }
  check_counted([] { train<float>(Family::qwen3_moe, false, false); });
}

TEST_CASE("the memory of writing text is counted byte for byte, that of graphs included", "[cuda]") {
  // Texts end by length alone: a dry run draws other tokens. Seven prompts for five slots of which some end early, so
  // that graphs of several numbers of rows come in an order in which their memory grows, too.
  const auto write = [](Family family, GraphUse graphs, bool record_routing) {
    auto model = Decoder<Cuda, float>::from_config(golden_config(family), 1);
    const std::vector<std::vector<std::int32_t>> prompts = {{1, 2, 3}, {4, 5}, {6}, {7, 8}, {9}, {1}, {2, 2}};
    const std::int64_t lengths[] = {21, 12, 30, 12, 12, 21, 40};
    std::vector<WritingRequest> requests;
    for (std::size_t i = 0; i < prompts.size(); ++i)
      requests.push_back({prompts[i], 0, static_cast<std::uint32_t>(i), {}, lengths[i]});
    const GenerateSettings settings{.batch = 5, .record_routing = record_routing, .graphs = graphs};
    const auto texts = generate(model, std::span<const WritingRequest>(requests), Sampler{.seed = 3}, settings);
    REQUIRE(texts.size() == 7);
    CHECK(texts[6].ids.size() == 40);
  };
  const std::int64_t before = emulated_counts().captures;
  check_counted([&] { write(Family::qwen2, GraphUse::on, false); });
  CHECK(emulated_counts().captures >= before + 3);
  check_counted([&] { write(Family::qwen3_moe, GraphUse::on, true); });
  const std::int64_t with_graphs = emulated_counts().captures;
  check_counted([&] { write(Family::qwen2, GraphUse::off, false); });
  CHECK(emulated_counts().captures == with_graphs);
}

TEST_CASE("a dry run needs no device, reads zeros, and is one at a time", "[cuda]") {
  struct Restore {
    EmulatedSettings before = emulated_settings();
    ~Restore() { emulated_settings() = before; }
  } restore;
  emulated_settings().devices = 0;
  Buffer<float, Cuda> kept;
  {
    DryRun dry;
    CHECK_THROWS_WITH(DryRun(), contains("inside of another one"));
    kept = Buffer<float, Cuda>(1 << 20);
    Buffer<float, Cuda> other(1000);
    CHECK(detail::is_device_memory(kept.data()));
    const std::vector<float> numbers(1 << 20, 3);
    Memory<Cuda>::from_host(kept.data(), numbers.data(), numbers.size() * sizeof(float));
    Kernels<Cuda, float>::scale(1000, 2.0f, other.data());
    float x = 7;
    Memory<Cuda>::to_host(&x, kept.data(), sizeof(x));
    CHECK(x == 0);
    cuda_synchronize();
    CHECK(dry.counted().used == (4 << 20) + 4096);
    other = Buffer<float, Cuda>();
    dry.reset_peak();
    CHECK(dry.counted().peak == 4 << 20);
    CHECK(dry.counted().reserved == 256 << 20);  // a piece of the arena
  }
  CHECK_THROWS_WITH((Buffer<float, Cuda>(4)), contains("no device answers"));
  kept = Buffer<float, Cuda>();  // given back behind it
  const DryRun again;
  CHECK(again.counted().used == 0);
}
