// SPDX-License-Identifier: Apache-2.0
// The vpMoE layout (80 layers, 256 experts of which 4 are active, one shared, vocabulary 201088) scaled down: forward,
// backward, cache, files.
#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/tools/known_configs.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

TokenBatch toy_batch() {
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 300, 7, 2, 11, 4});
  batch.append(std::vector<std::int32_t>{4, 4, 9});
  return batch;
}

}  // namespace

TEST_CASE("a scaled-down vpMoE keeps the layout: every layer a mixture, 4 experts active, one shared expert",
          "[model][vpmoe]") {
  const DecoderConfig c = tiny_config(vpmoe_config());
  CHECK(c.mixtures() == c.layers);
  CHECK(c.moe.active == 4);
  CHECK(c.moe.experts == 16);
  CHECK(c.moe.shared > 0);
  CHECK(c.query_heads / c.kv_heads == vpmoe_config().query_heads / vpmoe_config().kv_heads);
  auto model = Decoder<Cpu, float>::from_config(c, 1);
  CHECK(model.find_parameter("model.layers.2.mlp.experts.gate_up_proj")->value.shape() ==
        Shape{16, 2 * c.moe.intermediate, 64});
  CHECK(model.find_parameter("model.layers.2.mlp.shared_expert.up_proj.weight") != nullptr);
  CHECK(model.find_parameter("model.layers.2.self_attn.q_proj.bias") == nullptr);
}

TEST_CASE("vpMoE: writing with the cache, token by token or in pieces, gives the hidden states of the whole pass",
          "[model][vpmoe]") {
  auto model = Decoder<Cpu, double>::from_config(tiny_config(vpmoe_config()), 3);
  const TokenBatch batch = toy_batch();
  const Tensor<double, Cpu> whole = model.forward(batch);
  auto cache = model.make_cache(2, 8);
  for (std::int64_t b = 0; b < batch.documents(); ++b) {
    const std::vector<std::int32_t> slot = {static_cast<std::int32_t>(1 - b)};
    for (std::int64_t i = 0; i < batch.length(b);) {
      const std::int64_t first = batch.offsets[static_cast<std::size_t>(b)] + i, n = i == 0 ? 2 : 1;
      TokenBatch piece;
      piece.append(std::span(batch.ids).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n)));
      const Tensor<double, Cpu> hidden = model.decode(cache, piece, slot);
      CHECK(max_difference(hidden.data(), whole.data() + first * 64, static_cast<std::size_t>(n * 64)) <
            Tolerance<double>::model);
      i += n;
    }
  }
}

TEST_CASE("vpMoE: the backward pass gives finite differences for every kind of parameter", "[model][vpmoe]") {
  auto model = Decoder<Cpu, double>::from_config(tiny_config(vpmoe_config()), 3);
  const TokenBatch batch = toy_batch();
  model.set_router_policy({.balance = 0.2, .z = 0.1});
  const auto objective = [&] {
    const auto hidden = model.forward_training(batch, {.recompute = true});
    const RouterReport report = model.router_report();
    return cross_entropy_backward(model, hidden, batch.rows(), batch.weight(), false) + 0.2 * report.balance +
           0.1 * report.z;
  };
  cross_entropy_backward(model, model.forward_training(batch, {.recompute = true}), batch.rows(), batch.weight());
  for (const char* name :
       {"model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.gate.weight",
        "model.layers.0.mlp.experts.gate_up_proj", "model.layers.2.mlp.experts.down_proj",
        "model.layers.1.mlp.shared_expert.gate_proj.weight", "model.layers.1.mlp.shared_expert.down_proj.weight",
        "model.layers.0.mlp.shared_expert_gate.weight", "model.layers.2.post_attention_layernorm.weight"}) {
    CAPTURE(name);
    Parameter<double, Cpu>* p = model.find_parameter(name);
    REQUIRE(p != nullptr);
    const auto gradient = p->gradient.clone();
    CHECK(Kernels<Cpu, double>::sum_squares(gradient.data(), gradient.count()) > 0);
    const std::int64_t stride = std::max<std::int64_t>(1, p->value.count() / 24 | 1);
    CHECK(gradient_error(p->value.data(), gradient.data(), p->value.count(), Tolerance<double>::difference_step,
                         objective, stride) < Tolerance<double>::finite_difference);
  }
}

TEST_CASE("vpMoE: a saved directory is read back as it was", "[model][vpmoe]") {
  auto model = Decoder<Cpu, float>::from_config(tiny_config(vpmoe_config()), 3);
  const TemporaryDirectory folder;
  model.save_pretrained(folder / "model");
  auto again = Decoder<Cpu, float>::from_pretrained(folder / "model");
  CHECK(again.notes().empty());
  CHECK(again.config().family == Family::qwen2_moe);
  CHECK(again.config().moe.over_chosen);
  const auto a = model.forward(toy_batch()), b = again.forward(toy_batch());
  CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) == 0);
}
