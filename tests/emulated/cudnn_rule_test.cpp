// SPDX-License-Identifier: Apache-2.0
// Which attentions go to cuDNN, and that the others go to the own kernels.
#include "cuda/decoders.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/backend/cuda/library_attention.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using detail::AttentionPass;
using detail::CudnnFacts;

namespace {

constexpr CudnnFacts hopper{.built = true, .version = 92500, .major = 9, .minor = 0};
const AttentionHeads qwen{.query_heads = 28, .kv_heads = 4, .head_size = 128, .scale = 0.09};
const DocumentRanges eight{.documents = 8, .tokens = 4096, .shortest = 300, .longest = 700};

std::string refusal(const AttentionHeads& heads, const DocumentRanges& documents, DType type = DType::bf16,
                    AttentionPass pass = AttentionPass::forward, const CudnnFacts& facts = hopper) {
  const char* why = detail::cudnn_refusal(heads, documents, type, pass, facts);
  return why == nullptr ? "" : why;
}
template <class X, class F>
X with(X x, F change) {
  change(x);
  return x;
}

}  // namespace

TEST_CASE("cuDNN takes what the rule says and nothing else", "[cuda]") {
  const AttentionPass back = AttentionPass::backward;
  CHECK(refusal(qwen, eight).empty());
  CHECK(refusal(qwen, eight, DType::bf16, back).empty());
  const auto heads = [&](auto change) { return refusal(with(qwen, change), eight); };
  CHECK_THAT(heads([](AttentionHeads& h) { h.window = 4096; }), contains("a window"));
  CHECK_THAT(heads([](AttentionHeads& h) { h.softcap = 50; }), contains("soft cap"));
  for (const std::int64_t d : {8, 72, 130, 144, 256})
    CHECK_THAT(heads([d](AttentionHeads& h) { h.head_size = d; }), contains("the head size is not"));
  for (const std::int64_t d : {16, 64, 96, 128}) CHECK(heads([d](AttentionHeads& h) { h.head_size = d; }).empty());

  const auto documents = [&](auto change, AttentionPass pass) {
    return refusal(qwen, with(eight, change), DType::bf16, pass);
  };
  const AttentionPass forward = AttentionPass::forward;
  CHECK_THAT(documents([](DocumentRanges& r) { r.longest = 0; }, forward), contains("does not know"));
  CHECK_THAT(documents([](DocumentRanges& r) { r.shortest = 0; }, forward), contains("is empty"));
  CHECK(documents([](DocumentRanges& r) { r.shortest = 1; }, forward).empty());
  CHECK_THAT(documents([](DocumentRanges& r) { r.shortest = 1; }, back), contains("one token"));
  CHECK(documents([](DocumentRanges& r) { r.longest = 1536; }, back).empty());  // 8 x 28 x 1536^2 x 2 is 1008 MiB
  CHECK_THAT(documents([](DocumentRanges& r) { r.longest = 1537; }, back), contains("more than 1 GiB"));
  CHECK(documents([](DocumentRanges& r) { r.longest = 1537; }, forward).empty());

  CHECK_THAT(refusal(qwen, eight, DType::f32), contains("16-bit numbers"));
  const auto facts = [&](auto change) { return refusal(qwen, eight, DType::bf16, forward, with(hopper, change)); };
  CHECK_THAT(facts([](CudnnFacts& f) { f.version = 91899; }), contains("older than 9.19"));
  CHECK_THAT(facts([](CudnnFacts& f) { f.major = 8; }), contains("capability 9.0"));
  CHECK(facts([](CudnnFacts& f) { f.major = 10; }).empty());
  CHECK_THAT(facts([](CudnnFacts& f) { f.major = 12; }), contains("not deterministic"));
}

TEST_CASE("lengths are rounded up, so that few plans serve many batches", "[cuda]") {
  CHECK(detail::rounded_length(1) == 128);
  CHECK(detail::rounded_length(128) == 128);
  CHECK(detail::rounded_length(129) == 256);
  CHECK(detail::rounded_length(1000) == 1024);
  CHECK(detail::rounded_length(1025) == 1280);
  CHECK(detail::rounded_length(4097) == 5120);
  std::int64_t plans = 0, before = 0;
  for (std::int64_t n = 1; n <= 8192; ++n) {
    const std::int64_t rounded = detail::rounded_length(n);
    REQUIRE((rounded >= n && rounded % 128 == 0 && rounded >= before));
    plans += rounded != before;
    before = rounded;
  }
  CHECK(plans == 20);
  const auto key = detail::cudnn_plan_key(qwen, eight, AttentionPass::backward);
  CHECK(key.length == 768);
  CHECK(key == detail::cudnn_plan_key(qwen, with(eight, [](auto& d) { d.longest = 768, d.tokens = 9; }),
                                      AttentionPass::backward));
  CHECK(key != detail::cudnn_plan_key(qwen, eight, AttentionPass::forward));
}

TEST_CASE("a model's attention goes to cuDNN where it was asked for, and windows to the own kernels", "[cuda]") {
  struct Restore {
    EmulatedSettings before = emulated_settings();
    ~Restore() { set_attention_library(AttentionLibrary::own), emulated_settings() = before; }
  } restore;
  DecoderConfig config = kdlib_tests::golden_config(Family::qwen2);
  config.head_size = 16;
  auto model = Decoder<Cuda, bf16>::from_config(config, 1);
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 2, 3, 4, 5}), batch.append(std::vector<std::int32_t>{6, 7});
  const auto passes = [&] {
    const std::int64_t before = emulated_counts().library_attentions;
    const auto hidden = model.forward_training(batch);
    model.backward(View<const bf16, Cuda>(hidden));
    cuda_synchronize();
    return emulated_counts().library_attentions - before;
  };
  CHECK(passes() == 0);
  set_attention_library(AttentionLibrary::cudnn);
  CHECK(passes() == 2 * config.layers);
  batch.append(std::vector<std::int32_t>{8});
  CHECK(passes() == config.layers);  // one token: the backward pass is the own kernels'
  emulated_settings().major = 8;
  CHECK(passes() == 0);
  emulated_settings().cudnn = 0;
  set_attention_library(AttentionLibrary::own);
  CHECK_THROWS_WITH(set_attention_library(AttentionLibrary::cudnn), contains("compiled without cuDNN"));
}
