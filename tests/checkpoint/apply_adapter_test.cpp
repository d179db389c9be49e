// SPDX-License-Identifier: Apache-2.0
// Adapters of every kind of PEFT's LoRA, merged while they are read: PEFT's logits; files for other models; what is
// refused.
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/checkpoint/save.hpp"

#include <algorithm>
#include <tuple>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

struct Applied {
  Applied(const std::string& folder, const std::string& base, const ApplySettings& settings = {})
      : expected(folder + "/expected.safetensors"), model(Model::from_pretrained(base)) {
    const std::vector<std::int64_t> ids = read_as<std::int64_t>(expected.at("ids"));
    batch.append(std::vector<std::int32_t>(ids.begin(), ids.end()));
    notes = apply_adapter(model, folder, settings);
  }
  double difference(const char* tensor, Model& from) {
    const std::vector<float> logits = logits_of(from, from.forward(batch)),
                             wanted = read_as<float>(expected.at(tensor));
    REQUIRE(logits.size() == wanted.size());
    return max_difference(logits.data(), wanted.data(), wanted.size());
  }
  SafetensorsFile expected;
  Model model;
  TokenBatch batch;
  std::vector<std::string> notes;
};

/// Logits of the active adapter, as they are and after writing and reading the merged model; then PEFT's merged ones.
void check_case(const std::string& folder, const std::string& base) {
  Applied x(folder, base);
  CHECK(x.notes.empty());
  CHECK(x.difference("logits", x.model) < Tolerance<float>::model);
  const TemporaryDirectory written;
  x.model.save_pretrained(written.path());
  Model again = Model::from_pretrained(written.path());
  CHECK(again.notes().empty());
  CHECK(x.difference("logits", again) < Tolerance<float>::model);
  const bool saves_modules = Json::parse_file(folder + "/adapter_config.json").find_set("modules_to_save").has_value();
  Applied merged(folder, base, {.untie_head = saves_modules});
  CHECK(merged.difference("merged_logits", merged.model) < Tolerance<float>::model);
}

std::string refusal(Model& model, const std::string& folder, const ApplySettings& settings = {}) {
  try {
    apply_adapter(model, folder, settings);
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was refused";
}

std::string peft_folder(const char* name) { return reference_file(std::string("peft/") + name); }
Model base(const char* name) { return Model::from_pretrained(reference_file(std::string("models/") + name)); }

/// An adapter written by hand: a config and tensors of equal values.
class HandMade {
 public:
  explicit HandMade(const std::string& config) { write_file_atomically(folder_ / "adapter_config.json", config); }
  HandMade& tensor(const std::string& name, Shape shape, float value) {
    tensors_.emplace_back(name, shape, std::vector<float>(static_cast<std::size_t>(shape.count()), value));
    return *this;
  }
  std::string write() {
    SafetensorsWriter writer(folder_ / "adapter_model.safetensors");
    for (const auto& t : tensors_)
      writer.add("base_model.model." + std::get<0>(t), std::get<1>(t), std::span<const float>(std::get<2>(t)));
    writer.commit();
    return folder_.path();
  }

 private:
  TemporaryDirectory folder_;
  std::vector<std::tuple<std::string, Shape, std::vector<float>>> tensors_;
};

}  // namespace

TEST_CASE("an adapter merged while it is read gives PEFT's logits", "[model][adapter]") {
  for (const auto& [name, model] :
       std::vector<std::pair<const char*, const char*>>{{"llama_qv", "llama"},
                                                        {"llama_dora", "llama"},
                                                        {"qwen2_bias", "qwen2"},
                                                        {"qwen2_lora_bias", "qwen2"},
                                                        {"qwen3_moe_all_linear", "qwen3_moe"}}) {
    CAPTURE(name);
    check_case(peft_folder(name), reference_file(std::string("models/") + model));
  }
}

TEST_CASE("every adapter of the reference set gives PEFT's logits, merged and, where load_adapter knows it, trainable",
          "[model][adapter]") {
  const auto cases = shared_file("reference/peft/cases.json");
  if (!cases) KDLIB_SKIP("reference/peft is not here (set KDLIB_SHARED_DIR)");
  const std::vector<std::pair<std::string, std::string>> not_trained = {
      {"llama_dora", "use_dora"},
      {"llama_embedding", "LoRA on model.embed_tokens"},
      {"qwen2_bias", "bias \"lora_only\""},
      {"qwen2_head", "modules_to_save"},
      {"qwen2_lora_bias", "lora_bias"},
      {"qwen3_moe_experts", "target_parameters"},
      {"qwen3_moe_all_linear", "target_parameters"},
      {"qwen3_moe_per_expert", "LoRA on experts"}};
  const Json json = Json::parse_file(*cases);
  CHECK(json.at("cases").size() == 15);
  for (const Json& c : json.at("cases")) {
    const std::string name(c.at("folder").as_string()), model(c.at("base").as_string());
    CAPTURE(name);
    const std::string folder = *shared_file("reference/peft/" + name),
                      base_folder = *shared_file("reference/models/" + model);
    check_case(folder, base_folder);
    Model trained = Model::from_pretrained(base_folder);
    const auto refused =
        std::find_if(not_trained.begin(), not_trained.end(), [&](const auto& r) { return r.first == name; });
    if (refused != not_trained.end()) {
      CHECK_THROWS_WITH(load_adapter(trained, folder), contains(refused->second) && contains(name));
      continue;
    }
    load_adapter(trained, folder);
    const SafetensorsFile expected(folder + "/expected.safetensors");
    const std::vector<std::int64_t> ids = read_as<std::int64_t>(expected.at("ids"));
    TokenBatch batch;
    batch.append(std::vector<std::int32_t>(ids.begin(), ids.end()));
    const std::vector<float> logits = logits_of(trained, trained.forward(batch)),
                             wanted = read_as<float>(expected.at("logits"));
    CHECK(max_difference(logits.data(), wanted.data(), wanted.size()) < Tolerance<float>::model);
  }
}

TEST_CASE("a tied head stays as it is under an adapter of the embedding, or takes part where it is to stay tied",
          "[model][adapter]") {
  HandMade made(R"({"peft_type":"LORA","r":1,"lora_alpha":1,"target_modules":["embed_tokens"]})");
  Model before = base("llama"), own = base("llama"), tied = base("llama");
  REQUIRE(before.config().tied_head);
  const std::int64_t v = before.vocab_size(), h = before.hidden_size();
  const std::string folder = made.tensor("model.embed_tokens.lora_embedding_A", Shape{1, v}, 0.5f)
                                 .tensor("model.embed_tokens.lora_embedding_B", Shape{h, 1}, 0.25f)
                                 .write();
  apply_adapter(own, folder);
  apply_adapter(tied, folder, {.untie_head = false});
  const float *w = before.head().weight.data(), *w_own = own.head().weight.data(), *w_tied = tied.head().weight.data();
  CHECK_FALSE(own.config().tied_head);
  CHECK(tied.config().tied_head);
  CHECK(w_own[7] == w[7]);
  CHECK(std::abs(w_tied[7] - (w[7] + 0.125f)) < Tolerance<float>::elementwise);
  CHECK(std::abs(own.find_parameter("model.embed_tokens.weight")->value.data()[7] - (w[7] + 0.125f)) <
        Tolerance<float>::elementwise);
}

TEST_CASE("merging into one model leaves another over the same memory alone", "[model][adapter]") {
  Model model = base("llama"), shared = model.share();
  const std::vector<float> before(model.find_parameter("model.layers.0.self_attn.q_proj.weight")->value.data(),
                                  model.find_parameter("model.layers.0.self_attn.q_proj.weight")->value.data() + 64);
  apply_adapter(model, peft_folder("llama_qv"));
  const float *merged = model.find_parameter("model.layers.0.self_attn.q_proj.weight")->value.data(),
              *other = shared.find_parameter("model.layers.0.self_attn.q_proj.weight")->value.data();
  CHECK(std::equal(before.begin(), before.end(), other));
  CHECK_FALSE(std::equal(before.begin(), before.end(), merged));
}

TEST_CASE("experts: A by expert, B with the expert as the fastest index", "[model][adapter]") {
  // r = 1, E = 8: A_e is row e of A, B_e column e of B. B is zero but for expert 2's column: only that expert changes.
  Model model = base("qwen3_moe");
  Parameter<float, Cpu>& p = *model.find_parameter("model.layers.0.mlp.experts.down_proj");
  const std::int64_t e = p.value[0], out = p.value[1], in = p.value[2];
  const std::vector<float> before(p.value.data(), p.value.data() + p.value.count());
  std::vector<float> b(static_cast<std::size_t>(out * e));
  for (std::size_t o = 0; o < static_cast<std::size_t>(out); ++o) b[o * static_cast<std::size_t>(e) + 2] = 3;
  const TemporaryDirectory folder;
  write_file_atomically(folder / "adapter_config.json",
                        R"({"peft_type":"LORA","r":1,"lora_alpha":2,"target_modules":[],)"
                        R"("target_parameters":["layers.0.mlp.experts.down_proj"]})");
  SafetensorsWriter writer(folder / "adapter_model.safetensors");
  const std::vector<float> a(static_cast<std::size_t>(e * in), 0.5f);
  writer.add("base_model.model.model.layers.0.mlp.experts.lora_A.weight", Shape{e, in}, std::span<const float>(a));
  writer.add("base_model.model.model.layers.0.mlp.experts.lora_B.weight", Shape{out, e}, std::span<const float>(b));
  writer.commit();
  apply_adapter(model, folder.path());
  const std::int64_t each = out * in;
  bool right = true;
  for (std::int64_t i = 0; i < e * each; ++i)  // s = 2: 2 * 3 * 0.5 = 3 for expert 2
    right = right && near(static_cast<double>(p.value.data()[i]),
                          static_cast<double>(before[static_cast<std::size_t>(i)]) + (i / each == 2 ? 3 : 0),
                          Tolerance<float>::elementwise);
  CHECK(right);
}

TEST_CASE("bias all replaces the biases of modules that are not adapted, too", "[model][adapter]") {
  HandMade made(R"({"peft_type":"LORA","r":1,"lora_alpha":1,"target_modules":["q_proj"],"bias":"all"})");
  Model model = base("gpt_oss");
  std::size_t biases = 0;
  for (const Parameter<float, Cpu>* p : model.parameters()) {
    const bool adapted = p->name.find("q_proj") != std::string::npos;
    const std::string module = p->name.substr(0, p->name.rfind('.'));
    if (p->name.ends_with(".bias"))
      made.tensor(module + (adapted ? ".base_layer.bias" : ".bias"), p->value.shape(), 0.25f), ++biases;
    else if (adapted)
      made.tensor(module + ".lora_A.weight", Shape{1, p->value[1]}, 0)
          .tensor(module + ".lora_B.weight", Shape{p->value[0], 1}, 0);
  }
  CHECK(biases == 3 * 5);  // q, k, v, o and the router of three layers
  apply_adapter(model, made.write());
  for (const Parameter<float, Cpu>* p : model.parameters())
    if (p->name.ends_with(".bias")) CHECK(p->value.data()[p->value.count() - 1] == 0.25f);
}

TEST_CASE("an adapter for another model is refused with file, tensor, expected and found shape", "[model][adapter]") {
  Model llama = base("llama"), qwen3 = base("qwen3"), moe = base("qwen3_moe");
  const std::vector<float> before(llama.head().weight.data(), llama.head().weight.data() + 64);
  CHECK_THAT(refusal(qwen3, peft_folder("llama_qv")), contains("llama_qv/adapter_model.safetensors") &&
                                                          contains("q_proj.lora_B.weight\" (F32 [64, 8])") &&
                                                          contains("ask for [96, 8]") && contains("another model"));
  CHECK_THAT(refusal(llama, peft_folder("qwen3_moe_all_linear")),
             contains("target_parameters names down_proj") && contains("llama, 3 layers"));
  CHECK_THAT(refusal(moe, peft_folder("llama_all_linear")),
             contains("q_proj.lora_B.weight\" (F32 [64, 4])") && contains("ask for [96, 4]"));
  CHECK_THAT(refusal(llama, peft_folder("qwen2_lora_bias")), contains("has no bias to merge it into"));
  DecoderConfig shallow = llama.config();
  shallow.layers = 2;
  Model two_layers = Model::from_config(shallow, 1);
  CHECK_THAT(refusal(two_layers, peft_folder("llama_qv")),
             contains("model.layers.2.self_attn.q_proj.lora_A.weight") &&
                 contains("belongs to no module of the model (llama, 2 layers, width 64)"));
  // the same from load_adapter
  for (Model* model : {&qwen3, &two_layers})
    CHECK_THROWS_AS(load_adapter(*model, peft_folder("llama_qv")), FormatError);
  CHECK(std::equal(before.begin(), before.end(), llama.head().weight.data()));
}

TEST_CASE("what PEFT itself does not know, and files that contradict their config, are refused", "[model][adapter]") {
  Model llama = base("llama"), moe = base("qwen3_moe");
  const auto with = [](const char* extra) {
    return std::string(R"({"peft_type":"LORA","r":1,"lora_alpha":1,"target_modules":["q_proj"])") + extra + "}";
  };
  const auto empty = [&](Model& model, const std::string& config) {
    HandMade made(config);
    return refusal(model, made.write());
  };
  CHECK_THAT(empty(llama, with("")), contains("model.layers.0.self_attn.q_proj.lora_A.weight\" [1, 64] is missing"));
  CHECK_THAT(empty(llama, with(R"(,"bias":"some")")), contains("bias is \"some\""));
  CHECK_THAT(empty(llama, with(R"(,"ensure_weight_tying":true)")), contains("ensure_weight_tying"));
  CHECK_THAT(empty(llama, with(R"(,"layer_replication":[[0,1]])")), contains("layer_replication"));
  CHECK_THAT(empty(llama, R"({"peft_type":"LORA","target_modules":["embed_tokens"],"use_dora":true})"),
             contains("use_dora on model.embed_tokens"));
  CHECK_THAT(empty(llama, R"({"peft_type":"LORA","target_modules":["nothing"]})"),
             contains("no module of the model (llama, 3 layers, width 64) is targeted"));
  CHECK_THAT(empty(moe, R"({"peft_type":"LORA","target_modules":["q_proj"],"target_parameters":["norm.weight"]})"),
             contains("LoRA on model.norm.weight"));
  CHECK_THAT(empty(moe, R"({"peft_type":"LORA","target_modules":["gate_proj","up_proj","down_proj"]})"),
             contains("experts.7.down_proj.lora_A.weight\" is missing"));
  CHECK_THAT(empty(moe, R"({"peft_type":"LORA"})"), contains("no module"));
  {
    HandMade made(R"({"peft_type":"LORA","target_modules":["k_proj"],"modules_to_save":["lm_head"]})");
    const std::string folder = made.write();
    Model tied = base("llama");
    CHECK_THAT(refusal(tied, folder, {.untie_head = false}), contains("modules_to_save needs a head of its own"));
  }
  CHECK_THAT(empty(moe, R"({"peft_type":"LORA","target_modules":[],"target_parameters":["q_proj.weight"],)"
                        R"("modules_to_save":["score"]})"),
             contains("q_proj.lora_A.weight\" [8, 64] is missing"));
  CHECK_THAT(
      empty(
          llama,
          R"({"peft_type":"LORA","target_modules":["o_proj"],"layers_to_transform":[9],"modules_to_save":["score"]})"),
      contains("modules_to_save names score"));
  add_lora(llama, {.rank = 1});
  CHECK_THAT(empty(llama, with("")), contains("has an adapter already"));
}
