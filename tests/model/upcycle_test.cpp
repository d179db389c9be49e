// SPDX-License-Identifier: Apache-2.0
// Mixtures made of dense models: the same function at the start, routers and noise as set, files, refusals.
#include "kdlib/model/upcycle.hpp"

#include <cmath>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/quantize.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

struct Case {
  const char* name;
  const char* becomes;
};
/// Every dense family, and what its files need: windows, tied and untied heads, biases of q, k and v.
const Case cases[] = {{"llama", "qwen2_moe"},
                      {"mistral", "qwen2_moe"},
                      {"qwen2", "qwen2_moe"},
                      {"qwen2_window", "qwen2_moe"},
                      {"qwen3", "qwen3_moe"}};

std::vector<float> logits(Model& model, const TokenBatch& batch) { return logits_of(model, model.forward(batch)); }

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return 1e9;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max<double>(worst, std::abs(a[i] - b[i]));
  return worst;
}

/// Root mean square of a run of values.
double rms(const float* values, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return std::sqrt(sum / static_cast<double>(count));
}

std::string refused(const std::string& model, const UpcycleSettings& settings) {
  return refusal([&] { upcycle(Model::from_pretrained(reference_file("models/" + model)), settings); });
}

}  // namespace

TEST_CASE("an upcycled model of each family has the dense model's logits, and so have its files", "[model][upcycle]") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const ReferenceModel r(c.name);
    Model dense = Model::from_pretrained(r.path);
    const auto expected = logits(dense, r.tokens());
    for (const auto& [experts, active] : {std::pair<int, int>{8, 2}, {4, 1}, {3, 3}, {1, 1}}) {
      CAPTURE(experts, active);
      Model mixture = upcycle(Model::from_pretrained(r.path), {.experts = experts, .active = active});
      CHECK(std::string(family_name(mixture.config().family)) == c.becomes);
      CHECK(mixture.experts() == experts);
      CHECK(largest_difference(logits(mixture, r.tokens()), expected) < 1e-5);
      if (experts != 8) continue;
      const TemporaryDirectory folder;
      mixture.save_pretrained(folder / "m", {.dtype = "float32"});
      Model again = Model::from_pretrained(folder / "m");
      CHECK(again.notes().empty());
      CHECK((logits(again, r.tokens()) == logits(mixture, r.tokens())));
      const Json config = Json::parse_file(folder / "m/config.json");
      CHECK(config.at("model_type").as_string() == c.becomes);
      CHECK(config.at("num_experts").as_int() == 8);
      CHECK(config.at("num_experts_per_tok").as_int() == 2);
      CHECK(config.at("norm_topk_prob").as_bool());
      CHECK(config.at("moe_intermediate_size").as_int() == dense.config().intermediate_size);
      CHECK(mixture.config().parameter_count() == again.config().parameter_count());
    }
  }
}

TEST_CASE("only the layers that are named become mixtures", "[model][upcycle]") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const ReferenceModel r(c.name);
    Model dense = Model::from_pretrained(r.path);
    Model mixture = upcycle(Model::from_pretrained(r.path), {.experts = 4, .layers = {1}});
    CHECK(mixture.config().mixtures() == 1);
    CHECK(mixture.find_parameter("model.layers.0.mlp.up_proj.weight") != nullptr);
    CHECK(mixture.find_parameter("model.layers.1.mlp.gate.weight") != nullptr);
    CHECK(largest_difference(logits(mixture, r.tokens()), logits(dense, r.tokens())) < 1e-5);
    const TemporaryDirectory folder;
    mixture.save_pretrained(folder / "m", {.dtype = "float32"});
    Model again = Model::from_pretrained(folder / "m");
    CHECK((logits(again, r.tokens()) == logits(mixture, r.tokens())));
  }
}

TEST_CASE("routers and noise have the deviations that are set, from the seed alone", "[model][upcycle]") {
  const std::string path = reference_file("models/qwen3");
  const auto make = [&](double noise, double router, std::uint64_t seed) {
    return upcycle(Model::from_pretrained(path),
                   {.experts = 16, .active = 2, .noise = noise, .router_deviation = router, .seed = seed});
  };
  Model dense = Model::from_pretrained(path), a = make(0.1, 0.5, 1), b = make(0.1, 0.5, 1), c = make(0.1, 0.5, 2);
  const auto values = [](Model& model, const char* name) {
    const Parameter<float, Cpu>* p = model.find_parameter(name);
    REQUIRE(p != nullptr);
    return std::vector<float>(p->value.data(), p->value.data() + p->value.count());
  };
  const char* const router = "model.layers.0.mlp.gate.weight";
  const auto gates = values(a, router);
  CHECK(rms(gates.data(), static_cast<std::int64_t>(gates.size())) == Approx(0.5).epsilon(0.15));
  CHECK((gates == values(b, router)));
  CHECK((gates != values(c, router)));
  const char* const experts = "model.layers.0.mlp.experts.gate_up_proj";
  CHECK((values(a, experts) == values(b, experts)));
  CHECK((values(a, experts) != values(c, experts)));
  // Each copy is the dense map and noise of a tenth of its root mean square; no two copies are equal.
  const auto all = values(a, experts);
  const auto gate = values(dense, "model.layers.0.mlp.gate_proj.weight"),
             up = values(dense, "model.layers.0.mlp.up_proj.weight");
  for (const auto* map : {&gate, &up}) {
    std::vector<float> noise, first;
    for (std::size_t e = 0; e < 16; ++e)
      for (std::size_t i = 0; i < map->size(); ++i) {
        const float d = all[e * 2 * map->size() + (map == &up ? map->size() : 0) + i] - (*map)[i];
        noise.push_back(d);
        if (e == 0) first.push_back(d);
        else if (i == 0) CHECK(d != first[0]);
      }
    CHECK(rms(noise.data(), static_cast<std::int64_t>(noise.size())) ==
          Approx(0.1 * rms(map->data(), static_cast<std::int64_t>(map->size()))).epsilon(0.05));
  }
  Model still = make(0, 0, 1);
  for (const float w : values(still, router)) CHECK(w == 0);
  const ReferenceModel r("qwen3");
  CHECK(largest_difference(logits(still, r.tokens()), logits(dense, r.tokens())) < 1e-5);  // the first K experts
  CHECK(largest_difference(logits(a, r.tokens()), logits(dense, r.tokens())) > 1e-3);
}

TEST_CASE("an upcycled model trains: every expert that was met, the router and the shared expert have gradients",
          "[model][upcycle]") {
  for (const char* name : {"llama", "qwen3"}) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model mixture = upcycle(Model::from_pretrained(r.path), {.experts = 4, .active = 2, .balance_weight = 0.25});
    CHECK(mixture.router_policy().balance == 0.25);
    const auto hidden = mixture.forward_training(r.tokens());
    CHECK(mixture.router_report().balance >= 2 * 0.99);  // K where tokens are spread evenly
    Tensor<float, Cpu> ones(hidden.shape());
    for (std::int64_t i = 0; i < ones.count(); ++i) ones.data()[i] = 0.1f * static_cast<float>(i % 7);
    mixture.backward(std::as_const(ones).view());
    for (Parameter<float, Cpu>* p : mixture.parameters()) {
      INFO(p->name);
      CHECK(p->trainable);
      if (p->name.find(".mlp.") == std::string::npos) continue;
      REQUIRE(p->gradient);
      CHECK(rms(p->gradient.data(), p->gradient.count()) > 0);
    }
  }
}

TEST_CASE("what no mixture can be made of is refused by name", "[model][upcycle]") {
  CHECK_THAT(refused("qwen3_moe", {}), contains("[upcycle] the model (qwen3_moe) is a mixture of") &&
                                           contains("experts already; it needs a dense one"));
  CHECK_THAT(refused("gpt_oss", {}), contains("the model (gpt_oss) is a mixture of"));
  for (const std::string family : {"gemma2", "gemma2_scale", "gemma3"})
    CHECK_THAT(refused(family, {}), contains(family == "gemma3" ? "the model (gemma3_text)" : "the model (gemma2)") &&
                                        contains("has norms, gates and caps of which qwen2_moe has none"));
  CHECK_THAT(refused("llama3_rope_bias", {}),
             contains("biases, for which") && contains("qwen2_moe") && contains("no place"));
  CHECK_THAT(refused("llama", {.experts = 0}), contains("experts is 0; it must be from 1 to 65536"));
  CHECK_THAT(refused("llama", {.experts = 4, .active = 5}), contains("active is 5; it must be from 1 to experts 4"));
  CHECK_THAT(refused("llama", {.noise = -0.1}), contains("noise is -0.1; it must be 0 or above"));
  CHECK_THAT(refused("llama", {.router_deviation = -1}), contains("router_deviation is -1"));
  CHECK_THAT(refused("llama", {.layers = {3}}), contains("layers names layer 3 of 3; they count from 0"));
  CHECK_THAT(refused("llama", {.balance_weight = -1}), contains("weights must not be negative"));
  Model adapted = Model::from_pretrained(reference_file("models/llama"));
  add_lora(adapted, {.rank = 2});
  CHECK_THAT(refusal([&] { upcycle(std::move(adapted)); }), contains("has an adapter; merge_adapter(model) first"));
  Model rounded = Model::from_pretrained(reference_file("models/llama"));
  quantize_linear(rounded, {.group_size = 32});
  CHECK_THAT(refusal([&] { upcycle(std::move(rounded)); }),
             contains("self_attn.q_proj is no dense matrix") && contains("load the model with decoded weights"));
}
