// SPDX-License-Identifier: Apache-2.0
// Decoding on CUDA in bf16 with random weights, kernel by kernel and by graphs. Checked before it is timed: both write
// the same ids. Built twice: bench_decode_cuda measures, bench_decode_emulated rehearses it on the emulated device,
// whose times mean nothing. Options: [--model 7b|tiny] [--tokens N] [--prompt N].
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/rows.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/rollout/generate.hpp"
#include "kdlib/tools/known_configs.hpp"

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cuda, kd::bf16>;

/// Qwen2.5-7B's shape, or one that the emulated device runs within seconds.
kd::DecoderConfig config_of(const std::string& name) {
  kd::DecoderConfig c = kd::qwen2_5_7b_config();
  if (name == "7b") return c;
  kd::require<kd::ConfigError>(name == "tiny", "--model ", name, ": 7b or tiny");
  c.vocab_size = 64;
  c.hidden_size = 16;
  c.intermediate_size = 32;
  c.layers = 2;
  c.query_heads = 2;
  c.kv_heads = 1;
  c.head_size = 8;
  return c;
}

/// Every weight is a part of one random array, which is copied on the device.
Model random_model(const kd::DecoderConfig& config) {
  Model model = Model::without_values(config);
  constexpr std::int64_t period = 1000003;  // no row length divides it
  const kd::Rng random(1, kd::RngPurpose::test);
  std::vector<kd::bf16> numbers(static_cast<std::size_t>(period));
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = kd::bf16(
        static_cast<float>(config.initializer_range * 3.4 * (random.uniform(static_cast<std::uint32_t>(i)) - 0.5)));
  const kd::Buffer<kd::bf16, kd::Cuda> there(period);
  kd::Memory<kd::Cuda>::from_host(there.data(), numbers.data(), numbers.size() * sizeof(kd::bf16));
  const std::vector<kd::bf16> ones(static_cast<std::size_t>(config.hidden_size), kd::bf16(1.0f));
  for (auto* p : model.parameters()) {
    p->value = kd::Tensor<kd::bf16, kd::Cuda>(p->value.shape());
    if (p->name.ends_with("norm.weight")) {
      kd::Memory<kd::Cuda>::from_host(p->value.data(), ones.data(), ones.size() * sizeof(kd::bf16));
      continue;
    }
    for (std::int64_t at = 0; at < p->value.count(); at += period)
      kd::Memory<kd::Cuda>::copy(p->value.data() + at, there.data(),
                                 static_cast<std::size_t>(std::min(period, p->value.count() - at)) * sizeof(kd::bf16));
  }
  return model;
}

struct Run {
  std::vector<kd::Completion> texts;
  double tokens_per_second = 0;
};
Run write(Model& model, std::int64_t slots, std::int64_t prompt, std::int64_t tokens, kd::GraphUse graphs) {
  std::vector<std::vector<std::int32_t>> prompts;
  for (std::int64_t s = 0; s < slots; ++s) {
    prompts.emplace_back();
    for (std::int64_t i = 0; i < prompt; ++i)
      prompts.back().push_back(static_cast<std::int32_t>((s * 7919 + i * 104729) % model.vocab_size()));
  }
  kd::GenerationProgress end;
  kd::GenerateSettings how{.batch = slots, .prompt_tokens = 8192, .graphs = graphs};
  how.progress = [&end](const kd::GenerationProgress& p) { end = p; };
  Run run{kd::generate(model, prompts, kd::Sampler{.max_new_tokens = tokens, .seed = 3}, how)};
  run.tokens_per_second = static_cast<double>(end.new_tokens - end.sequences) / end.decoding_seconds;
  return run;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string name = "7b";
  std::int64_t tokens = 0, prompt = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--model") name = argv[i + 1];
    else if (option == "--tokens") tokens = std::atoll(argv[i + 1]);
    else if (option == "--prompt") prompt = std::atoll(argv[i + 1]);
    else kd::fail<kd::ConfigError>(option, " is not an option: --model, --tokens, --prompt");
  }
  kd::require<kd::ConfigError>(argc % 2 == 1, argv[argc - 1], " has no value");
  if (tokens == 0) tokens = name == "tiny" ? 18 : 129;
  if (prompt == 0) prompt = name == "tiny" ? 4 : 512;
  kd::Memory<kd::Cuda>::require_ready();
  Model model = random_model(config_of(name));
  for (const std::int64_t slots : {std::int64_t{1}, std::int64_t{8}, std::int64_t{64}}) {
    using kd::GraphUse;
    const Run first = write(model, slots, prompt, tokens, GraphUse::off),  // products choose their algorithms
        graphs = write(model, slots, prompt, tokens, GraphUse::on),
              kernels = write(model, slots, prompt, tokens, GraphUse::off);
    for (std::size_t i = 0; i < first.texts.size(); ++i)
      kd::require<kd::Error>(first.texts[i].ids == graphs.texts[i].ids && first.texts[i].ids == kernels.texts[i].ids,
                             "[bench] text ", i, " of ", slots, " differs with graphs");
    std::printf("decode %s at %lld slots: %.1f tokens/s kernel by kernel, %.1f by graphs (%.2f)\n", name.c_str(),
                static_cast<long long>(slots), kernels.tokens_per_second, graphs.tokens_per_second,
                graphs.tokens_per_second / kernels.tokens_per_second);
    std::fflush(stdout);
  }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
