// SPDX-License-Identifier: Apache-2.0
// With set_batch_invariant what a model writes, and each log-probability's bits, are the same alone and in any batch.
#include <cstring>
#include <string>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/rollout/generate.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

std::vector<std::vector<std::int32_t>> prompts_of(std::int64_t vocabulary) {
  std::vector<std::vector<std::int32_t>> list;
  for (std::int32_t p = 0; p < 32; ++p) {
    std::vector<std::int32_t> ids;
    for (std::int32_t i = 0; i < 1 + p * 7 % 23; ++i)
      ids.push_back((p * 31 + i * 17 + 5) % static_cast<std::int32_t>(vocabulary));
    list.push_back(std::move(ids));
  }
  return list;
}

template <class M>
void check(M& model) {
  struct Guard {
    Guard() { set_batch_invariant(true); }
    ~Guard() { set_batch_invariant(false); }
  } const guard;
  const auto prompts = prompts_of(model.vocab_size());
  const Sampler sampler{.temperature = 0.8, .max_new_tokens = 20, .seed = 5, .stop_ids = {2}};
  const std::vector<Completion> alone = generate(model, prompts, sampler, {.batch = 1});
  for (const std::int64_t batch : {3, 16, 32}) {
    const std::vector<Completion> together = generate(model, prompts, sampler, {.batch = batch});
    bool equal = true;
    for (std::size_t i = 0; i < alone.size(); ++i)
      equal = equal && together[i].ids == alone[i].ids && together[i].log_probs == alone[i].log_probs &&
              together[i].full_log_probs == alone[i].full_log_probs;
    CAPTURE(batch);
    CHECK(equal);
  }
}

}  // namespace

TEST_CASE("32 prompts give equal ids and bits in batches of 1, 3, 16 and 32", "[rollout][invariant]") {
  for (const std::string name : {"llama", "qwen3_moe", "gemma2"}) {
    CAPTURE(name);
    auto model = Decoder<Cpu, float>::from_pretrained(reference_file("models/" + name));
    check(model);
  }
  auto in_file = Decoder<Cpu, float>::from_pretrained(reference_file("models/gpt_oss_mxfp4"),
                                                      {.trainable = false, .weights = WeightStorage::in_file});
  check(in_file);
  auto rounded = Decoder<Cpu, float>::from_pretrained(reference_file("models/qwen3"));
  quantize_linear(rounded, {.kind = PackedKind::int4, .group_size = 16});
  check(rounded);
  for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
    DecoderConfig config = Decoder<Cpu, float>::from_pretrained(reference_file("models/qwen3_moe")).config();
    config.moe.core_form = form;
    config.moe.core_rank = 3;
    auto cores = Decoder<Cpu, float>::from_config(config, 5);
    check(cores);
    auto half_cores = Decoder<Cpu, bf16>::from_config(config, 5);
    check(half_cores);
  }
  auto half = Decoder<Cpu, bf16>::from_pretrained(reference_file("models/llama"));
  check(half);
  auto mapped = Decoder<Cpu, bf16>::from_pretrained(reference_file("models/qwen2_moe"),
                                                    {.trainable = false, .weights = WeightStorage::in_file});
  check(mapped);
}
