// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts: files in every stored form, regularisers of routers, frozen routers, replay, histogram,
// adapters, refusals.
#include "reference_models.hpp"

#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/model/quantize.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

const std::vector<std::string> mixtures = {"qwen3_moe", "qwen2_moe", "gpt_oss"};

TokenBatch golden_batch() {
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 3, 7, 2, 11});
  batch.append(std::vector<std::int32_t>{4, 4, 9});
  return batch;
}

/// Copies a directory's tensors with `change(name, dtype, shape, bytes) -> keep` applied; config.json is copied as it
/// is.
struct StoredTensor {
  std::string name;
  DType dtype;
  Shape shape;
  std::vector<std::byte> bytes;
};

std::vector<StoredTensor> stored_tensors(const std::string& path) {
  std::vector<StoredTensor> list;
  const SafetensorsDirectory files(path);
  for (const TensorInfo* t : files.tensors())
    list.push_back({t->name, t->dtype, t->shape(), {t->data.begin(), t->data.end()}});
  return list;
}

void write_model(const std::string& from, const std::string& to, const std::vector<StoredTensor>& tensors) {
  make_directories(to);
  SafetensorsWriter writer(join_path(to, "model.safetensors"));
  for (const StoredTensor& t : tensors)
    writer.add_from(t.name, t.dtype, t.shape, [&t](AtomicFile& f) { f.write(t.bytes.data(), t.bytes.size()); });
  writer.commit();
  write_file_atomically(join_path(to, "config.json"), read_file(join_path(from, "config.json")));
}

}  // namespace

TEST_CASE("the balance term equals transformers' aux loss", "[model][experts]") {
  for (const std::string& name : mixtures) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    model.set_router_policy({.balance = 1e-3, .z = 0});
    model.forward_training(r.tokens());
    CHECK(std::abs(model.router_report().balance - static_cast<double>(r.floats("aux")[0])) < Tolerance<float>::loss);
  }
}

TEST_CASE("packed MXFP4 experts give transformers' logits, and can be trained and saved decoded", "[model][experts]") {
  const ReferenceModel r("gpt_oss_mxfp4");
  Model model = Model::from_pretrained(r.path);
  CHECK(model.notes().empty());
  const auto hidden = model.forward_training(r.tokens());
  CHECK(padded_difference(logits_of(model, hidden), r.floats("logits"), r.mask) < Tolerance<float>::model);
  const TemporaryDirectory folder;
  model.save_pretrained(folder / "plain");  // bfloat16 holds every MXFP4 value
  CHECK_FALSE(Json::parse_file(folder / "plain/config.json").contains("quantization_config"));
  Model again = Model::from_pretrained(folder / "plain");
  CHECK(again.notes().empty());
  const auto same = again.forward(r.tokens());
  CHECK(max_difference(same.data(), hidden.data(), static_cast<std::size_t>(hidden.count())) == 0);
}

TEST_CASE("fused expert tensors read as the separate ones", "[model][experts]") {
  const ReferenceModel r("qwen3_moe");
  Model model = Model::from_pretrained(r.path);
  std::vector<StoredTensor> tensors;
  for (StoredTensor& t : stored_tensors(r.path))
    if (t.name.find(".experts.") == std::string::npos) tensors.push_back(std::move(t));
  for (Parameter<float, Cpu>* p : model.parameters()) {
    if (!detail::is_expert_tensor(p->name)) continue;
    const auto* data = reinterpret_cast<const std::byte*>(p->value.data());
    tensors.push_back({p->name, DType::f32, p->value.shape(), {data, data + p->value.bytes()}});
  }
  const TemporaryDirectory folder;
  write_model(r.path, folder / "fused", tensors);
  Model fused = Model::from_pretrained(folder / "fused");
  CHECK(fused.notes().empty());
  const auto a = model.forward(r.tokens()), b = fused.forward(r.tokens());
  CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) == 0);
}

TEST_CASE("the whole objective's gradient holds balance and z terms, with and without recomputing",
          "[model][experts]") {
  for (const Family family : {Family::qwen3_moe, Family::qwen2_moe, Family::gpt_oss})
    for (const bool recompute : {false, true}) {
      CAPTURE(family_name(family), recompute);
      auto model = Decoder<Cpu, double>::from_config(golden_config(family), 1);
      fill_golden(model);
      const TokenBatch batch = golden_batch();
      const RouterPolicy policy{.balance = 0.3, .z = 0.2};
      model.set_router_policy(policy);
      const auto objective = [&] {
        const auto hidden = model.forward_training(batch, {.recompute = recompute});
        const RouterReport report = model.router_report();
        return cross_entropy_backward(model, hidden, batch.rows(), batch.weight(), false) +
               policy.balance * report.balance + policy.z * report.z;
      };
      const auto hidden = model.forward_training(batch, {.recompute = recompute});
      cross_entropy_backward(model, hidden, batch.rows(), batch.weight());
      for (const char* ending : {"mlp.gate.weight", "mlp.router.weight", "mlp.router.bias",
                                 "layers.0.self_attn.v_proj.weight", "layers.0.self_attn.sinks"})
        for (Parameter<double, Cpu>* p : model.parameters()) {
          if (!p->name.ends_with(ending)) continue;
          CAPTURE(p->name);
          const auto gradient = p->gradient.clone();
          CHECK(gradient_error(p->value.data(), gradient.data(), p->value.count(), Tolerance<double>::difference_step,
                               objective, 3) < Tolerance<double>::finite_difference);
        }
    }
}

TEST_CASE("a batch's share of the step scales the router terms", "[model][experts]") {
  auto model = Decoder<Cpu, double>::from_config(golden_config(Family::qwen3_moe), 1);
  fill_golden(model);
  const TokenBatch batch = golden_batch();
  model.set_router_policy({.balance = 0.3, .z = 0.2});
  Parameter<double, Cpu>* router = model.find_parameter("model.layers.0.mlp.gate.weight");
  Tensor<double, Cpu> whole;
  for (const double share : {1.0, 0.25}) {
    model.zero_gradients();
    const auto hidden = model.forward_training(batch, {.recompute = false, .share = share});
    model.backward(Tensor<double, Cpu>::zeros(hidden.shape()));
    if (share == 1.0) whole = router->gradient.clone();
  }
  CHECK(Kernels<Cpu, double>::sum_squares(whole.data(), whole.count()) > 0);
  for (std::int64_t i = 0; i < whole.count(); ++i)
    CHECK(near(router->gradient.data()[i], 0.25 * whole.data()[i], Tolerance<double>::elementwise));
}

TEST_CASE("a frozen router gets no gradient and does not change the others'", "[model][experts]") {
  auto model = Decoder<Cpu, double>::from_config(golden_config(Family::gpt_oss), 1);
  fill_golden(model);
  const TokenBatch batch = golden_batch();
  cross_entropy_backward(model, model.forward_training(batch), batch.rows(), batch.weight());
  std::vector<Tensor<double, Cpu>> before;
  for (auto* p : model.parameters()) before.push_back(p->gradient ? p->gradient.clone() : Tensor<double, Cpu>());
  model.set_routers_trainable(false);
  model.zero_gradients();
  cross_entropy_backward(model, model.forward_training(batch), batch.rows(), batch.weight());
  std::size_t i = 0, frozen = 0;
  for (auto* p : model.parameters()) {
    CAPTURE(p->name);
    if (p->name.find(".router.") != std::string::npos) {
      ++frozen;
      CHECK(Kernels<Cpu, double>::sum_squares(p->gradient.data(), p->gradient.count()) == 0);
    } else if (before[i]) {
      CHECK(max_difference(p->gradient.data(), before[i].data(), static_cast<std::size_t>(p->gradient.count())) == 0);
    }
    ++i;
  }
  CHECK(frozen == 4);
}

TEST_CASE("recorded routing: the histogram counts it, replay follows it, another router notwithstanding",
          "[model][experts]") {
  for (const std::string& name : mixtures) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const TokenBatch batch = r.tokens();
    RoutingRecord record, again;
    model.set_routing(&record);
    const auto first = model.forward(batch);
    REQUIRE(static_cast<std::int64_t>(record.ids.size()) == model.config().mixtures());
    const auto histogram = expert_histogram(record, model.config().moe.experts);
    for (const auto& row : histogram) {
      std::int64_t sum = 0;
      for (const std::int64_t n : row) sum += n;
      CHECK(sum == batch.tokens() * model.config().moe.active);
    }
    model.set_routing(&again, &record);
    const auto same = model.forward_training(batch, {.recompute = true});
    CHECK(max_difference(first.data(), same.data(), static_cast<std::size_t>(first.count())) == 0);
    CHECK(again.ids == record.ids);
    for (Parameter<float, Cpu>* p : model.parameters())
      if (p->name.ends_with("mlp.gate.weight") || p->name.ends_with("mlp.router.weight"))
        Kernels<Cpu, float>::scale(p->value.count(), -1.0f, p->value.data());
    model.forward(batch);
    CHECK(again.ids == record.ids);
    model.set_routing(&again);
    model.forward(batch);
    CHECK(again.ids != record.ids);
    TokenBatch other;
    other.append(std::vector<std::int32_t>{5, 6});
    model.set_routing(nullptr, &record);
    CHECK_THAT(refusal([&] { model.forward(other); }), contains("the routing to replay is for"));
    record.ids[0][1] = 99;
    CHECK_THAT(refusal([&] { model.forward(batch); }), contains("names expert 99"));
  }
}

TEST_CASE("a frozen share of a mixture gives the same, without gradients", "[model][experts]") {
  for (const std::string& name : mixtures) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    Model twin = model.share();
    const auto a = model.forward(r.tokens()), b = twin.forward(r.tokens());
    CHECK(max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count())) == 0);
    for (Parameter<float, Cpu>* p : twin.parameters()) CHECK_FALSE(p->trainable);
  }
}

TEST_CASE("LoRA on a mixture: attention, dense and shared maps; saved, loaded and merged to the same logits",
          "[model][experts][adapter]") {
  for (const std::string& name : mixtures) {
    CAPTURE(name);
    const ReferenceModel r(name);
    Model model = Model::from_pretrained(r.path);
    const std::int64_t count = add_lora(model, {.rank = 3});
    // three layers of q, k, v, o; qwen3_moe: the dense maps of layer 1; qwen2_moe: the shared expert's three maps and
    // its gate
    CHECK(count == 12 + (name == "qwen3_moe" ? 3 : 0) + (name == "qwen2_moe" ? 12 : 0));
    std::uint64_t row = 0;
    for (Parameter<float, Cpu>* p : model.parameters()) {
      CHECK(p->trainable == p->name.starts_with("base_model."));
      if (p->trainable)
        for (std::int64_t i = 0; i < p->value.count(); ++i)
          p->value.data()[i] = 0.1f * static_cast<float>(hash_value(p->name, ++row));
    }
    const TokenBatch batch = r.tokens();
    const auto adapted = model.forward_training(batch, {.recompute = true});
    cross_entropy_backward(model, adapted, batch.rows(), batch.weight());
    for (Parameter<float, Cpu>* p : model.parameters()) CHECK(static_cast<bool>(p->gradient) == p->trainable);
    const TemporaryDirectory folder;
    save_adapter(model, folder / "adapter");
    Model other = Model::from_pretrained(r.path);
    load_adapter(other, folder / "adapter");
    const auto loaded = other.forward(batch);
    CHECK(max_difference(loaded.data(), adapted.data(), static_cast<std::size_t>(loaded.count())) == 0);
    Model applied = Model::from_pretrained(r.path);
    apply_adapter(applied, folder / "adapter");
    const auto at_once = applied.forward(batch);
    CHECK(max_difference(at_once.data(), adapted.data(), static_cast<std::size_t>(at_once.count())) <
          Tolerance<float>::model);
    merge_adapter(other);
    const auto merged = other.forward(batch);
    CHECK(max_difference(merged.data(), adapted.data(), static_cast<std::size_t>(merged.count())) <
          Tolerance<float>::model);
  }
}

TEST_CASE("adapters on experts are refused by name", "[model][experts][adapter]") {
  const ReferenceModel r("qwen3_moe");
  Model model = Model::from_pretrained(r.path);
  add_lora(model, {.rank = 2, .targets = {"q_proj"}});
  const TemporaryDirectory folder;
  save_adapter(model, folder / "adapter");
  const std::string weights = folder / "adapter/adapter_model.safetensors",
                    config = folder / "adapter/adapter_config.json";
  std::vector<StoredTensor> tensors = stored_tensors(weights);
  const std::string expert = "base_model.model.model.layers.0.mlp.experts.3.down_proj.lora_A.weight";
  tensors.push_back({expert, DType::f32, Shape{2, 40}, std::vector<std::byte>(2 * 40 * 4)});
  SafetensorsWriter writer(weights);
  for (const StoredTensor& t : tensors)
    writer.add_from(t.name, t.dtype, t.shape, [&t](AtomicFile& f) { f.write(t.bytes.data(), t.bytes.size()); });
  writer.commit();
  remove_adapter(model);
  CHECK_THAT(refusal([&] { load_adapter(model, folder / "adapter"); }),
             contains(expert) && contains("LoRA on experts is read for merging only"));
  std::string text = read_file(config);
  const std::string key = "\"target_parameters\": null";
  REQUIRE(text.find(key) != std::string::npos);
  text.replace(text.find(key), key.size(), "\"target_parameters\": [\"mlp.experts.gate_up_proj\"]");
  write_file_atomically(config, text);
  CHECK_THAT(refusal([&] { load_adapter(model, folder / "adapter"); }), contains("target_parameters"));
  CHECK_THAT(refusal([&] { add_lora(model, {.targets = {"mlp.experts.3.down_proj"}}); }),
             contains("no linear map of the model is targeted by mlp.experts.3.down_proj; it has q_proj, k_proj"));
}

TEST_CASE("what does not fit a mixture is refused by name", "[model][experts]") {
  const ReferenceModel r("qwen3_moe");
  const TemporaryDirectory folder;
  const auto attempt = [&](auto&& change, const std::string& from, WeightStorage weights = WeightStorage::decoded) {
    std::vector<StoredTensor> tensors = stored_tensors(from);
    change(tensors);
    write_model(from, folder / "broken", tensors);
    return refusal([&] { Model::from_pretrained(folder / "broken", {.trainable = false, .weights = weights}); });
  };
  const auto erase = [](std::vector<StoredTensor>& list, const std::string& name) {
    list.erase(std::find_if(list.begin(), list.end(), [&](const StoredTensor& t) { return t.name == name; }));
  };
  const std::string down = "model.layers.2.mlp.experts.7.down_proj.weight", router = "model.layers.0.mlp.gate.weight";
  CHECK_THAT(attempt([&](auto& list) { erase(list, down); }, r.path), contains(down) && contains("is missing"));
  CHECK_THAT(attempt([&](auto& list) { erase(list, router); }, r.path), contains(router) && contains("is missing"));
  CHECK_THAT(attempt(
                 [&](auto& list) {
                   for (StoredTensor& t : list)
                     if (t.name == down) t.shape = Shape{40, 64};
                 },
                 r.path),
             contains(down) && contains("config.json asks for [64, 40]"));
  const std::string packed = reference_file("models/gpt_oss_mxfp4"),
                    scales = "model.layers.1.mlp.experts.down_proj_scales";
  CHECK_THAT(attempt([&](auto& list) { erase(list, scales); }, packed), contains(scales) && contains("is missing"));
  CHECK_THAT(attempt(
                 [&](auto& list) {
                   for (StoredTensor& t : list)
                     if (t.name == scales) t.bytes[5] = std::byte{255};
                 },
                 packed),
             contains(scales) && contains("255"));
  const auto missing = [&](auto& list) { erase(list, down); };
  CHECK_THAT(attempt(missing, r.path, WeightStorage::in_file), contains(down) && contains("is missing"));
  const auto not_a_number = [&](auto& list) {
    for (StoredTensor& t : list)
      if (t.name == scales) t.bytes[5] = std::byte{255};
  };
  CHECK_THAT(attempt(not_a_number, packed, WeightStorage::in_file), contains(scales) && contains("255"));
  Model model = Model::from_pretrained(r.path);
  CHECK_THAT(refusal([&] { quantize_linear(model); }), contains("the experts of qwen3_moe are not packed yet"));
  CHECK_THAT(refusal([&] { model.set_router_policy({.balance = -1, .z = 0}); }), contains("must not be negative"));
  auto dense = Model::from_config(golden_config(Family::llama), 1);
  CHECK_THAT(refusal([&] { dense.set_router_policy({.balance = 1, .z = 0}); }), contains("no routers"));
}
