// SPDX-License-Identifier: Apache-2.0
// LoRA adapters as GGUF files: the same function as the adapter in memory, the form that llama.cpp reads, refusals.
#include "kdlib/checkpoint/gguf_adapter.hpp"

#include <cmath>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "model/golden.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

Model golden_model(Family family) {
  Model model = Model::from_config(golden_config(family), 1);
  fill_golden(model);
  return model;
}

/// Factors that are not zero.
void fill_factors(Model& model) {
  float x = 0.37f;
  for (Linear<Cpu, float>* l : model.adaptable())
    if (l->lora != nullptr)
      for (Parameter<float, Cpu>* p : {&l->lora->a, &l->lora->b})
        for (std::int64_t i = 0; i < p->value.count(); ++i) {
          x = 3.7f * x * (1 - x);
          p->value.data()[i] = x - 0.5f;
        }
}

std::vector<float> outputs(Model& model) {
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{3, 1, 4, 1, 5, 9});
  const Tensor<float, Cpu> hidden = model.forward(batch);
  return {hidden.data(), hidden.data() + hidden.count()};
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  return max_difference(a.data(), b.data(), a.size());
}

/// A file with the keys of an adapter of architecture llama.
GgufWriter& with_keys(GgufWriter& writer, const char* architecture = "llama", const char* type = "lora") {
  return writer.string("general.type", "adapter")
      .string("general.architecture", architecture)
      .string("adapter.type", type)
      .f32("adapter.lora.alpha", 4);
}

}  // namespace

TEST_CASE("an adapter goes through a GGUF file of every family and is the same function", "[checkpoint][gguf]") {
  for (const Family family :
       {Family::llama, Family::qwen2, Family::qwen3, Family::qwen2_moe, Family::qwen3_moe, Family::gpt_oss}) {
    CAPTURE(family_name(family));
    const TemporaryDirectory dir;
    Model model = golden_model(family);
    const std::vector<float> base = outputs(model);
    add_lora(model, {.rank = 2, .alpha = 3, .routers = model.config().mixtures() > 0});
    fill_factors(model);
    const std::vector<float> adapted = outputs(model);
    REQUIRE(distance(adapted, base) > 1e-3);
    CHECK(save_gguf_adapter(model, dir / "a.gguf").empty());
    const GgufFile file(dir / "a.gguf");
    CHECK(file.at("general.type").as_string() == "adapter");
    CHECK(file.at("adapter.type").as_string() == "lora");
    CHECK(file.at("adapter.lora.alpha").as_double() == 3);
    CHECK(file.tensor("blk.1.attn_k.weight.lora_a").shape == Shape{2, 8});
    CHECK(file.tensor("blk.1.attn_k.weight.lora_b").shape == Shape{2 * model.config().head_size, 2});

    Model loaded = golden_model(family);
    CHECK(load_adapter(loaded, dir / "a.gguf").empty());
    CHECK(outputs(loaded) == adapted);
    for (Linear<Cpu, float>* l : loaded.adaptable())
      if (l->lora != nullptr) CHECK((l->lora->a.trainable && l->lora->rank == 2 && l->lora->alpha == 3));
    Model applied = golden_model(family);
    CHECK(apply_adapter(applied, dir / "a.gguf").empty());
    CHECK_FALSE(applied.has_adapter());
    CHECK(distance(outputs(applied), adapted) < Tolerance<float>::model);
  }
}

TEST_CASE("rows of B stand as llama.cpp's rows of q and k, scales are folded into one alpha", "[checkpoint][gguf]") {
  const TemporaryDirectory dir;
  Model model = golden_model(Family::llama);  // heads of 4
  LoraSettings settings{.rank = 1, .alpha = 4};
  settings.targets = {"q_proj", "v_proj", "up_proj"};
  settings.alpha_pattern = {{"up_proj", 2}};
  add_lora(model, settings);
  for (Linear<Cpu, float>* l : model.adaptable())
    if (l->lora != nullptr)
      for (std::int64_t i = 0; i < l->lora->b.value.count(); ++i) l->lora->b.value.data()[i] = static_cast<float>(i);
  const std::vector<std::string> notes = save_gguf_adapter(model, dir / "a.gguf");
  REQUIRE(notes.size() == 2);
  CHECK_THAT(notes[0], contains("blk.0.ffn_up.weight.lora_b is multiplied by 0.5"));
  const GgufFile file(dir / "a.gguf");
  CHECK(file.at("adapter.lora.alpha").as_double() == 4);
  const auto rows = [&](const char* name) {
    std::vector<float> values = decode_tensor<float>(file.tensor(concat("blk.0.", name, ".weight.lora_b")));
    values.resize(8);
    return values;
  };
  CHECK(rows("attn_q") == std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7});  // gguf.md, 4.1: d = 4
  CHECK(rows("attn_v") == std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(rows("ffn_up") == std::vector<float>{0, 0.5f, 1, 1.5f, 2, 2.5f, 3, 3.5f});
  Model loaded = golden_model(Family::llama);
  load_adapter(loaded, dir / "a.gguf");
  CHECK(distance(outputs(loaded), outputs(model)) < Tolerance<float>::model);
}

TEST_CASE("PEFT's adapters become GGUF files and back", "[checkpoint][gguf]") {
  const TemporaryDirectory dir;
  const std::pair<const char*, const char*> cases[] = {
      {"llama_all_linear", "llama"}, {"qwen2_rslora", "qwen2"}, {"qwen3_patterns", "qwen3"}};
  for (const auto& [name, base] : cases) {
    CAPTURE(name);
    const std::string model_path = reference_file(concat("models/", base)),
                      peft = reference_file(concat("peft/", name));
    Model first = Model::from_pretrained(model_path), second = Model::from_pretrained(model_path),
          third = Model::from_pretrained(model_path);
    load_adapter(first, peft);
    save_gguf_adapter(first, dir / "a.gguf");
    load_adapter(second, dir / "a.gguf");
    CHECK(distance(outputs(second), outputs(first)) < Tolerance<float>::model);
    save_adapter(second, dir / name);
    load_adapter(third, dir / name);
    CHECK(outputs(third) == outputs(second));
  }
}

TEST_CASE("experts of a GGUF adapter are merged, and not trained", "[checkpoint][gguf]") {
  const TemporaryDirectory dir;
  // down, gate and up of four experts [6, 8], [8, 6]; rank 1, alpha 4.
  std::vector<float> a(4 * 8), b(4 * 8);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 5), b[i] = static_cast<float>(i % 7) - 2;
  const auto bytes = [](const std::vector<float>& x, std::size_t n) { return std::as_bytes(std::span(x).first(n)); };
  GgufWriter writer(dir / "a.gguf");
  with_keys(writer, "qwen3moe");
  writer.add("blk.1.ffn_up_exps.weight.lora_a", GgufType::f32, Shape{4, 1, 8}, bytes(a, 32));
  writer.add("blk.1.ffn_up_exps.weight.lora_b", GgufType::f32, Shape{4, 6, 1}, bytes(b, 24));
  writer.add("blk.1.ffn_down_exps.weight.lora_a", GgufType::f32, Shape{4, 1, 6}, bytes(a, 24));
  writer.add("blk.1.ffn_down_exps.weight.lora_b", GgufType::f32, Shape{4, 8, 1}, bytes(b, 32));
  writer.commit();
  Model model = golden_model(Family::qwen3_moe), wanted = golden_model(Family::qwen3_moe);
  CHECK_THAT(refusal([&] { load_adapter(model, dir / "a.gguf"); }), contains("_exps.weight.lora_a"));
  apply_adapter(model, dir / "a.gguf");
  float* up = wanted.find_parameter("model.layers.1.mlp.experts.gate_up_proj")->value.data();  // [4, 12, 8]
  float* down = wanted.find_parameter("model.layers.1.mlp.experts.down_proj")->value.data();   // [4, 8, 6]
  for (std::size_t e = 0; e < 4; ++e) {
    for (std::size_t r = 0; r < 6; ++r)
      for (std::size_t i = 0; i < 8; ++i) up[(e * 12 + 6 + r) * 8 + i] += 4 * b[e * 6 + r] * a[e * 8 + i];
    for (std::size_t r = 0; r < 8; ++r)
      for (std::size_t i = 0; i < 6; ++i) down[(e * 8 + r) * 6 + i] += 4 * b[e * 8 + r] * a[e * 6 + i];
  }
  for (const char* name : {"gate_up_proj", "down_proj"}) {
    const std::string full = concat("model.layers.1.mlp.experts.", name);
    const auto &got = model.find_parameter(full)->value, &want = wanted.find_parameter(full)->value;
    CHECK(max_difference(got.data(), want.data(), static_cast<std::size_t>(want.count())) < Tolerance<float>::model);
  }
}

TEST_CASE("GGUF adapters that do not fit are refused by key and tensor", "[checkpoint][gguf]") {
  const TemporaryDirectory dir;
  struct Factor {
    std::string name;
    Shape shape;
  };
  const auto loaded = [&](const std::vector<Factor>& factors, const char* architecture = "llama",
                          const char* type = "lora", float value = 1) {
    const std::vector<float> same(256, value);
    GgufWriter writer(dir / "a.gguf");
    with_keys(writer, architecture, type);
    for (const Factor& f : factors)
      writer.add(f.name, GgufType::f32, f.shape,
                 std::as_bytes(std::span(same).first(static_cast<std::size_t>(f.shape.count()))));
    writer.commit();
    Model model = golden_model(Family::llama);
    std::string text = refusal([&] { load_adapter(model, dir / "a.gguf"); });
    CHECK(model.has_adapter() == (text == "nothing was refused"));
    CHECK((model.has_adapter() || text.find("a.gguf") != std::string::npos));
    return text;
  };
  const Factor a{"blk.0.attn_v.weight.lora_a", Shape{1, 8}}, b{"blk.0.attn_v.weight.lora_b", Shape{8, 1}};
  CHECK(loaded({a, b}) == "nothing was refused");
  CHECK_THAT(loaded({a}), contains("\"blk.0.attn_v.weight.lora_b\" is missing"));
  CHECK_THAT(loaded({b}), contains("\"blk.0.attn_v.weight.lora_a\" is missing"));
  CHECK_THAT(loaded({a, {b.name, Shape{4, 1}}}), contains(b.name) && contains("[8, 1] is needed"));
  CHECK_THAT(loaded({{a.name, Shape{1, 16}}, b}), contains(a.name) && contains("[1, 8] is needed"));
  CHECK_THAT(loaded({a, {b.name, Shape{8, 2}}}), contains("[8, 1] is needed"));
  CHECK_THAT(loaded({a, b, {"blk.9.attn_v.weight.lora_a", Shape{1, 8}}, {"blk.9.attn_v.weight.lora_b", Shape{8, 1}}}),
             contains("LoRA on blk.9.attn_v.weight has no place"));
  CHECK_THAT(loaded({{"token_embd.weight.lora_a", Shape{1, 8}}, {"token_embd.weight.lora_b", Shape{16, 1}}}),
             contains("LoRA on token_embd.weight"));
  CHECK_THAT(loaded({a, b, {"blk.0.attn_v.bias", Shape{8}}}), contains("is no factor of a LoRA adapter"));
  CHECK_THAT(loaded({a, b}, "qwen2"), contains("general.architecture is \"qwen2\""));
  CHECK_THAT(loaded({a, b}, "llama", "loha"), contains("adapter.type is \"loha\""));
  CHECK_THAT(loaded({a, b}, "llama", "lora", std::nanf("")), contains("not finite"));
  CHECK_THAT(loaded({}), contains("holds no factors"));
  Model model = golden_model(Family::llama);
  CHECK_THAT(refusal([&] { load_adapter(model, reference_file("gguf/golden_llama.gguf")); }),
             contains("golden_llama.gguf") && contains("general.type"));
  CHECK_THAT(refusal([&] { save_gguf_adapter(model, dir / "b.gguf"); }), contains("has no adapter"));
  add_lora(model, {});
  CHECK_THAT(refusal([&] { load_adapter(model, dir / "a.gguf"); }), contains("has an adapter already"));
  CHECK_THAT(refusal([&] { save_gguf_adapter(model, dir / "b.gguf", {.dtype = "int8"}); }), contains("dtype int8"));
}
