// SPDX-License-Identifier: Apache-2.0
// Adapters that PEFT wrote: logits, merged logits, base logits, gradients; files in and out; what is refused.
#include "kdlib/model/adapter.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/save.hpp"

#include "kdlib/io/atomic_file.hpp"
#include "reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

struct Case {
  const char *name, *base;
};
const std::vector<Case> cases = {{"llama_qv", "llama"},     {"llama_all_linear", "llama"}, {"llama_layers", "llama"},
                                 {"qwen2_rslora", "qwen2"}, {"qwen3_patterns", "qwen3"},   {"qwen3_regex", "qwen3"}};

struct Loaded {
  explicit Loaded(const Case& c)
      : folder(reference_file(std::string("peft/") + c.name)),
        expected(folder + "/expected.safetensors"),
        model(Model::from_pretrained(reference_file(std::string("models/") + c.base))) {
    const std::vector<std::int64_t> ids = read_as<std::int64_t>(expected.at("ids"));
    batch.append(std::vector<std::int32_t>(ids.begin(), ids.end()));
  }
  double difference(const char* tensor) {
    const std::vector<float> logits = logits_of(model, model.forward(batch)),
                             wanted = read_as<float>(expected.at(tensor));
    REQUIRE(logits.size() == wanted.size());
    return max_difference(logits.data(), wanted.data(), wanted.size());
  }
  std::string folder;
  SafetensorsFile expected;
  Model model;
  TokenBatch batch;
};

void write(const std::string& path, const std::string& text) { write_file_atomically(path, text); }

std::string config_with(const std::string& extra) {
  return R"({"peft_type":"LORA","r":4,"lora_alpha":4,"target_modules":["q_proj"])" + extra + "}";
}

DecoderConfig tiny() { return golden_config(Family::llama); }

}  // namespace

TEST_CASE("adapters of PEFT give PEFT's logits: active, switched off, merged, unmerged", "[model][adapter]") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Loaded x(c);
    CHECK(load_adapter(x.model, x.folder).empty());
    CHECK(x.difference("logits") < Tolerance<float>::model);
    x.model.set_adapter_enabled(false);
    CHECK(x.difference("base_logits") < Tolerance<float>::model);
    x.model.set_adapter_enabled(true);
    merge_adapter(x.model);
    CHECK(x.difference("merged_logits") < Tolerance<float>::model);
    unmerge_adapter(x.model);
    CHECK(x.difference("logits") < Tolerance<float>::model);
    remove_adapter(x.model);
    CHECK(x.difference("base_logits") < Tolerance<float>::model);
  }
}

TEST_CASE("gradients of the factors equal PEFT's, and nothing else has one", "[model][adapter]") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Loaded x(c);
    load_adapter(x.model, x.folder);
    std::size_t given = 0, compared = 0;
    for (const TensorInfo& t : x.expected.tensors()) given += t.name.starts_with("grad.") ? 1u : 0u;
    if (given == 0) continue;
    const auto hidden = x.model.forward_training(x.batch);
    const double loss = cross_entropy_backward(x.model, hidden, x.batch.rows(), x.batch.weight());
    CHECK(std::abs(loss - static_cast<double>(read_as<float>(x.expected.at("loss"))[0])) < Tolerance<float>::loss);
    for (Parameter<float, Cpu>* p : x.model.parameters()) {
      if (!p->trainable) {
        CHECK_FALSE(static_cast<bool>(p->gradient));
        continue;
      }
      CAPTURE(p->name);
      const std::vector<float> wanted = read_as<float>(x.expected.at("grad." + p->name));
      CHECK(scaled_difference(p->gradient_view().data(), wanted.data(), wanted.size()) < Tolerance<float>::gradient);
      ++compared;
    }
    CHECK(compared == given);
  }
}

TEST_CASE("merging a float adapter into bfloat16 weights rounds once", "[model][adapter]") {
  Loaded x(cases[0]);
  const SafetensorsFile merged(x.folder + "/merged_bf16.safetensors");
  for (Parameter<float, Cpu>* p : x.model.parameters())
    if (const TensorInfo* base = merged.find("base." + p->name)) {
      const std::vector<float> values = read_as<float>(*base);
      std::copy(values.begin(), values.end(), p->value.data());
    }
  load_adapter(x.model, x.folder);
  merge_adapter(x.model);
  const TemporaryDirectory folder;
  x.model.save_pretrained(folder.path(), {.dtype = "bfloat16", .shard_bytes = 1 << 30});
  const SafetensorsFile saved(folder / "model.safetensors");
  std::size_t tensors = 0, flips = 0, values = 0;
  for (const TensorInfo& t : merged.tensors()) {
    if (!t.name.starts_with("merged.")) continue;
    const TensorInfo& mine = saved.at(t.name.substr(7));
    REQUIRE(mine.dtype == DType::bf16);
    const std::vector<float> a = read_as<float>(mine), b = read_as<float>(t);
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      flips += a[i] == b[i] ? 0u : 1u;
      if (a[i] != b[i]) CHECK(std::abs(a[i] - b[i]) <= std::abs(b[i]) / 128);  // one unit in the last place
    }
    values += a.size();
    ++tensors;
  }
  CHECK(tensors > 0);
  CHECK(flips * 1000 < values);
}

TEST_CASE("a new adapter changes no logit", "[model][adapter]") {
  auto model = Decoder<Cpu, double>::from_config(tiny(), 3);
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 3, 7});
  const auto before = model.forward(batch);
  CHECK(add_lora(model, {.rank = 2, .alpha = 4}) == 14);
  const auto after = model.forward(batch);
  CHECK(max_difference(before.data(), after.data(), static_cast<std::size_t>(before.count())) == 0);
  for (const Parameter<double, Cpu>* p : model.parameters()) CHECK(p->trainable == p->name.starts_with("base_model."));
  CHECK_THROWS_WITH(add_lora(model, {}), contains("has an adapter already"));
  const TemporaryDirectory folder;
  CHECK_THROWS_WITH(model.save_pretrained(folder.path()), contains("not merged"));
}

TEST_CASE("adapters survive a round trip through files", "[model][adapter]") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Loaded x(c);
    load_adapter(x.model, x.folder);
    const auto expected = x.model.forward(x.batch);
    const TemporaryDirectory folder;
    save_adapter(x.model, folder.path());
    const SafetensorsFile before(x.folder + "/adapter_model.safetensors"), after(folder / "adapter_model.safetensors");
    REQUIRE(before.tensors().size() == after.tensors().size());
    for (const TensorInfo& t : before.tensors()) CHECK(read_as<float>(t) == read_as<float>(after.at(t.name)));
    remove_adapter(x.model);
    load_adapter(x.model, folder.path());
    const auto again = x.model.forward(x.batch);
    CHECK(max_difference(again.data(), expected.data(), static_cast<std::size_t>(expected.count())) == 0);
  }
}

TEST_CASE("LoRA's worked example: A = [[1, 2]], B = [[3], [-1]], W = I", "[model][adapter]") {
  // s = 2: dW = [[6, 12], [-2, -4]], x = [1, 1] gives [19, -5]
  Linear<Cpu, double> l("m", 2, 2, false);
  l.weight()->value = Tensor<double, Cpu>::zeros(Shape{2, 2});
  l.weight()->value.data()[0] = l.weight()->value.data()[3] = 1;
  auto pair = detail::make_lora_pair(l, {.rank = 1, .alpha = 2});
  pair->a.value.data()[0] = 1, pair->a.value.data()[1] = 2;
  pair->b.value.data()[0] = 3, pair->b.value.data()[1] = -1;
  l.lora = std::move(pair);
  Tape<double, Cpu> tape(false);
  Tensor<double, Cpu> x(Shape{1, 2});
  x.data()[0] = x.data()[1] = 1;
  const auto y = linear(tape, l.operand(true), tape.variable(x, false));
  CHECK(y.value.data()[0] == 19);
  CHECK(y.value.data()[1] == -5);
  CHECK(lora_scale(4, 8, false) == 2);
  CHECK(lora_scale(4, 8, true) == 4);
}

TEST_CASE("adapters that are not plain LoRA are refused by the key that says so", "[model][adapter]") {
  auto model = Model::from_config(tiny(), 3);
  const TemporaryDirectory folder;
  const auto refusal = [&](const std::string& config) {
    write(folder / "adapter_config.json", config);
    try {
      load_adapter(model, folder.path());
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing was refused");
  };
  CHECK_THAT(refusal(R"({"peft_type":"IA3"})"), contains("peft_type is \"IA3\""));
  CHECK_THAT(refusal(config_with(R"(,"use_dora":true)")), contains("use_dora"));
  CHECK_THAT(refusal(config_with(R"(,"bias":"lora_only")")), contains("bias"));
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":4,"lora_alpha":1e308,"target_modules":["q_proj"]})"),
             contains("lora_alpha is beyond the range of float32"));
  CHECK_THAT(refusal(config_with(R"(,"alpha_pattern":{"q_proj":-1e39})")), contains("beyond the range of float32"));
  {
    Loaded x(cases[0]);
    std::string config = read_file(x.folder + "/adapter_config.json");
    config.insert(config.find('{') + 1, R"("zzz": 5, "rank_pattern": {"q_porj": 3}, "rank_pattern_": {}, )");
    const std::size_t own = config.find("\"rank_pattern\"", config.find("rank_pattern_"));
    if (own != std::string::npos) config.replace(own, 14, "\"rank_pattern__\"");
    write(folder / "adapter_config.json", config);
    write(folder / "adapter_model.safetensors", read_file(x.folder + "/adapter_model.safetensors"));
    std::string notes;
    for (const std::string& note : load_adapter(x.model, folder.path())) notes += note + "\n";
    CHECK_THAT(notes, contains("the key zzz is unknown") && contains("rank_pattern \"q_porj\" fits no module"));
    remove_tree(folder / "adapter_model.safetensors");
  }
  CHECK_THAT(refusal(config_with(R"(,"modules_to_save":["lm_head"])")), contains("modules_to_save"));
  CHECK_THAT(refusal(config_with(R"(,"lora_bias":true)")), contains("lora_bias"));
  CHECK_THAT(refusal(config_with(R"(,"target_parameters":["mlp.experts.gate_up_proj"])")),
             contains("target_parameters"));
  CHECK_THAT(refusal(config_with("")), contains("adapter_model.safetensors"));
  write(folder / "adapter_model.bin", "x");
  CHECK_THAT(refusal(config_with("")), contains("pickle"));
  add_lora(model, {.rank = 4, .alpha = 4, .targets = {"q_proj"}});
  save_adapter(model, folder.path());
  remove_adapter(model);
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":4,"target_modules":["embed_tokens","q_proj"]})"),
             contains("model.embed_tokens"));
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":4,"target_modules":["nothing"]})"), contains("no linear map"));
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":5,"target_modules":["q_proj"]})"), contains("ask for [5, 8]"));
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":4,"target_modules":["q_proj","v_proj"]})"),
             contains("v_proj.lora_A.weight\" [4, 8] is missing"));
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":4,"target_modules":["q_proj"],"layers_to_transform":[0]})"),
             contains("belongs to no module"));
#if defined(KDLIB_WITH_PCRE2)
  // The whole path must match, as in PEFT.
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":4,"target_modules":"(?!x)q_proj"})"), contains("is targeted"));
#else
  CHECK_THAT(refusal(R"({"peft_type":"LORA","r":4,"target_modules":"(?!x)q_proj"})"), contains("look-around"));
#endif
  CHECK_FALSE(model.has_adapter());
}

TEST_CASE("a LoRA setting that has no effect on the model is refused with the nearest names", "[model][adapter]") {
  auto model = Decoder<Cpu, double>::from_config(tiny(), 3);
  const auto refused = [&](const LoraSettings& settings, const std::string& words) {
    CHECK_THROWS_WITH(add_lora(model, settings), contains(words));
    CHECK_FALSE(model.has_adapter());
  };
  refused({.targets = {"q_proj", "v_porj"}},
          "targets holds v_porj, which is no linear map of the model; did you mean v_proj");
  refused({.targets = {"model.layers.7.self_attn.q_proj", "v_proj"}}, "targets holds model.layers.7");
  refused({.exclude = {"dwn_proj"}},
          "exclude holds dwn_proj, which is no linear map of the model; did you mean down_proj");
  refused({.layers = {0, 12}}, "layers holds 12; the model has the layers 0 to 1");
  refused({.targets = {"q_proj"}, .rank_pattern = {{"k_proj", 4}}},
          "rank_pattern has the key k_proj, which fits no adapted map");
  CHECK(add_lora(model, {.targets = {"q_proj", "v_proj"}}) == 4);
}
