// SPDX-License-Identifier: Apache-2.0
// Writing with real decoders: transformers' greedy text, log-probs of what was drawn, independence of the batch.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/rollout/generate.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using kdlib_tests::ReferenceModel;
using kdlib_tests::Tolerance;

namespace {

DecoderConfig toy_config() {
  DecoderConfig config = kdlib_tests::golden_config(Family::qwen3);
  config.vocab_size = 48;
  config.hidden_size = 16;
  config.initializer_range = 0.3;
  return config;
}

const std::vector<std::vector<std::int32_t>> ragged = {
    {3}, {1, 2, 3, 4, 5, 6, 7}, {9, 9}, {0, 11, 12}, {5, 4, 3, 2}, {30, 31}, {8}};

}  // namespace

TEST_CASE("greedy text equals that of transformers for every dense family, alone and beside other prompts",
          "[rollout]") {
  for (const char* name : {"llama", "llama3_rope_bias", "qwen2", "qwen2_window", "qwen3"}) {
    CAPTURE(name);
    const ReferenceModel reference(name);
    auto model = Decoder<Cpu, float>::from_pretrained(reference.path);
    const std::vector<std::int64_t> prompt = reference.longs("prompt"), text = reference.longs("generated");
    std::vector<std::vector<std::int32_t>> prompts = {{prompt.begin(), prompt.end()}};
    const Sampler greedy{.temperature = 0.0, .max_new_tokens = static_cast<std::int64_t>(text.size())};
    const std::vector<std::int32_t> expected(text.begin(), text.end());
    REQUIRE(generate(model, prompts, greedy)[0].ids == expected);
    prompts.insert(prompts.begin(), {5, 6, 7});
    prompts.push_back({9});
    REQUIRE(generate(model, prompts, greedy, {.batch = 2})[1].ids == expected);
    REQUIRE(generate(model, prompts, greedy, {.batch = 3, .prompt_tokens = 1})[1].ids == expected);
  }
}

TEMPLATE_TEST_CASE("log-probs of drawn tokens equal those of the whole forward pass over the text", "[rollout]", float,
                   double) {
  auto model = Decoder<Cpu, TestType>::from_config(toy_config(), 3);
  const std::vector<Completion> texts =
      generate(model, ragged, Sampler{.max_new_tokens = 12, .stop_ids = {2}}, {.batch = 3});
  TokenBatch batch;
  for (std::size_t i = 0; i < texts.size(); ++i) append_completion(batch, ragged[i], texts[i]);
  const TokenBatch::Rows rows = batch.rows();
  const Tensor<TestType, Cpu> hidden = model.forward(batch);
  std::vector<double> expected;
  for (std::size_t r = 0; r < rows.token.size(); ++r)
    expected.push_back(row_log_probs(model.head(), View<const TestType, Cpu>(hidden.rows(rows.token[r], 1)),
                                     std::span(rows.label).subspan(r, 1))[0]);
  REQUIRE(expected.size() == rows.behaviour.size());
  for (std::size_t r = 0; r < expected.size(); ++r)
    REQUIRE(std::abs(static_cast<double>(rows.behaviour[r]) - expected[r]) < Tolerance<float>::model);
}

TEST_CASE("a decoder's text does not depend on the batch it was written in", "[rollout]") {
  auto model = Decoder<Cpu, double>::from_config(toy_config(), 3);
  const Sampler sampler{.temperature = 0.8, .top_k = 20, .max_new_tokens = 15, .stop_ids = {2, 7}};
  const std::vector<Completion> expected = generate(model, ragged, sampler, {.batch = 1});
  for (const std::int64_t batch : {2, 4, 16}) {
    const std::vector<Completion> got = generate(model, ragged, sampler, {.batch = batch});
    for (std::size_t i = 0; i < ragged.size(); ++i) {
      REQUIRE(got[i].ids == expected[i].ids);
      for (std::size_t k = 0; k < got[i].ids.size(); ++k)
        REQUIRE(std::abs(got[i].log_probs[k] - expected[i].log_probs[k]) < Tolerance<float>::loss);
    }
  }
}

TEMPLATE_TEST_CASE("samples of one prompt share its first pass and say what they say alone", "[rollout]", float,
                   double) {
  auto model = Decoder<Cpu, TestType>::from_config(toy_config(), 3);
  const Sampler sampler{.temperature = 0.8, .max_new_tokens = 15, .stop_ids = {2, 7}};
  std::vector<WritingRequest> requests;
  for (std::uint32_t p = 0; p < ragged.size(); ++p)
    for (std::uint32_t sample = 0; sample < 3; ++sample) requests.push_back({ragged[p], sample, p, {}});
  std::vector<Completion> expected;
  for (const WritingRequest& request : requests)  // each with a pass of its own
    expected.push_back(generate(model, std::span<const WritingRequest>(&request, 1), sampler)[0]);
  std::int64_t tokens = 0;
  for (const auto& prompt : ragged) tokens += static_cast<std::int64_t>(prompt.size());
  for (const std::int64_t batch : {1, 2, 4, 100}) {
    CAPTURE(batch);
    GenerateSettings settings{.batch = batch};
    GenerationProgress end;
    settings.progress = [&](const GenerationProgress& p) { end = p; };
    const std::vector<Completion> got = generate(model, std::span<const WritingRequest>(requests), sampler, settings);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      REQUIRE(got[i].ids == expected[i].ids);
      for (std::size_t k = 0; k < got[i].ids.size(); ++k)
        REQUIRE(std::abs(got[i].log_probs[k] - expected[i].log_probs[k]) < Tolerance<float>::model);
    }
    if (batch == 100) REQUIRE(end.prompt_tokens == tokens);
    else if (batch == 1) REQUIRE(end.prompt_tokens == 3 * tokens);
    else REQUIRE(end.prompt_tokens < 3 * tokens);
  }
}
