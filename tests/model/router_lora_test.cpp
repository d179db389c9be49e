// SPDX-License-Identifier: Apache-2.0
// LoRA on the routers of mixtures, beside attention and shared experts: gradients, files as PEFT's target_parameters,
// merging, refusals.
#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/model/adapter.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

template <class T>
void fill_adapter(Decoder<Cpu, T>& model) {
  std::uint64_t row = 0;
  for (auto* p : model.parameters())
    if (p->trainable)
      for (std::int64_t i = 0; i < p->value.count(); ++i)
        p->value.data()[i] = static_cast<T>(0.3 * hash_value(p->name, ++row));
}

}  // namespace

TEST_CASE("LoRA on routers, attention and shared experts: its gradients are finite differences, the base gets none",
          "[model][experts][adapter]") {
  for (const Family family : {Family::qwen3_moe, Family::qwen2_moe, Family::gpt_oss}) {
    CAPTURE(family_name(family));
    auto model = Decoder<Cpu, double>::from_config(golden_config(family), 1);
    fill_golden(model);
    const std::int64_t maps = static_cast<std::int64_t>(model.linears().size());
    CHECK(add_lora(model, {.rank = 2, .routers = true}) == maps + 2);
    fill_adapter(model);
    TokenBatch batch;
    batch.append(std::vector<std::int32_t>{1, 5, 3, 7, 2, 11});
    batch.append(std::vector<std::int32_t>{4, 4, 9});
    const auto objective = [&] {
      return cross_entropy_backward(model, model.forward_training(batch), batch.rows(), batch.weight(), false);
    };
    cross_entropy_backward(model, model.forward_training(batch), batch.rows(), batch.weight());
    int routers = 0;
    for (auto* p : model.parameters()) {
      CAPTURE(p->name);
      CHECK(static_cast<bool>(p->gradient) == p->trainable);
      if (!p->trainable || p->name.find("layers.1") == std::string::npos) continue;
      if (p->name.find(".gate.lora") != std::string::npos || p->name.find(".router.lora") != std::string::npos) {
        ++routers;
        CHECK(Kernels<Cpu, double>::sum_squares(p->gradient.data(), p->gradient.count()) > 0);
      }
      const auto gradient = p->gradient.clone();
      CHECK(gradient_error(p->value.data(), gradient.data(), p->value.count(), Tolerance<double>::difference_step,
                           objective) < Tolerance<double>::finite_difference);
    }
    CHECK(routers == 2);
  }
}

TEST_CASE("an adapter with routers is saved, loaded, applied, merged and taken away with equal logits",
          "[model][experts][adapter]") {
  for (const std::string name : {"qwen3_moe", "qwen2_moe", "gpt_oss"}) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const TokenBatch batch = r.tokens();
    const auto plain = model.forward(batch);
    add_lora(model, {.rank = 3, .routers = true});
    fill_adapter(model);
    RoutingRecord record;
    model.set_routing(&record);
    const auto adapted = model.forward(batch);
    model.set_routing(nullptr);
    const TemporaryDirectory folder;
    save_adapter(model, folder / "adapter");
    const Json config = Json::parse_file(folder / "adapter/adapter_config.json");
    const std::string router = "model.layers.0.mlp." + model.config().moe.router + ".weight";
    bool listed = false;
    for (const Json& parameter : config.at("target_parameters")) listed = listed || parameter.as_string() == router;
    CHECK(listed);
    Model other = Model::from_pretrained(r.path), applied = Model::from_pretrained(r.path);
    load_adapter(other, folder / "adapter");
    apply_adapter(applied, folder / "adapter");
    const auto count = static_cast<std::size_t>(adapted.count());
    CHECK(max_difference(other.forward(batch).data(), adapted.data(), count) == 0);
    applied.set_routing(nullptr, &record);  // a merged router may round to another choice
    CHECK(max_difference(applied.forward(batch).data(), adapted.data(), count) < Tolerance<float>::model);
    merge_adapter(other);
    other.set_routing(nullptr, &record);
    CHECK(max_difference(other.forward(batch).data(), adapted.data(), count) < Tolerance<float>::model);
    other.set_routing(nullptr);
    remove_adapter(other);
    CHECK_FALSE(other.has_adapter());
    CHECK(max_difference(other.forward(batch).data(), plain.data(), count) == 0);
  }
}

TEST_CASE("routers alone can be adapted; a model without them, and saving without merging, are refused",
          "[model][experts][adapter]") {
  Model model = Model::from_config(golden_config(Family::qwen3_moe), 1);
  CHECK(add_lora(model, {.rank = 2, .targets = {}, .routers = true}) == 2);
  CHECK(model.has_adapter());
  const TemporaryDirectory folder;
  CHECK_THROWS_WITH(model.save_pretrained(folder / "model"),
                    contains("model.layers.0.mlp.gate has an adapter that is not merged"));
  CHECK_THROWS_WITH(add_lora(model, {.routers = true}), contains("has an adapter already"));
  save_adapter(model, folder / "adapter");
  Model again = Model::from_config(golden_config(Family::qwen3_moe), 1);
  CHECK(load_adapter(again, folder / "adapter").empty());
  CHECK(again.routers()[1]->lora != nullptr);
  Model dense = Model::from_config(golden_config(Family::llama), 1);
  CHECK_THROWS_WITH(add_lora(dense, {.routers = true}), contains("routers is set, but the model (llama) has none"));
}
