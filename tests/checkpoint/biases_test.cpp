// SPDX-License-Identifier: Apache-2.0
// Each bias of a layer is there or not by itself: what the files hold decides, and saving keeps the function.
#include <bit>

#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

constexpr bool BiasSettings::*const flags[] = {&BiasSettings::q,   &BiasSettings::k,    &BiasSettings::v,
                                               &BiasSettings::o,   &BiasSettings::gate, &BiasSettings::up,
                                               &BiasSettings::down};

/// The flags whose bits are set, from q on.
BiasSettings biases_of(unsigned bits) {
  BiasSettings b;
  for (unsigned i = 0; i < 7; ++i) b.*flags[i] = (bits >> i & 1u) != 0;
  return b;
}

/// A tiny model with these biases, none of them zero.
Model model_with(Family family, const BiasSettings& biases) {
  DecoderConfig config = golden_config(family);
  config.biases = biases;
  Model model = Model::from_config(config, 1);
  fill_golden(model);
  return model;
}

std::vector<float> outputs(Model& model) {
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{3, 1, 4, 1, 5, 9});
  const Tensor<float, Cpu> hidden = model.forward(batch);
  return {hidden.data(), hidden.data() + hidden.count()};
}

/// Writes `directory` again without the tensors whose names end so.
void leave_out(const std::string& directory, std::string_view ending) {
  const std::string path = join_path(directory, "model.safetensors"), bytes = read_file(path);
  write_file_atomically(path + ".old", bytes);
  {
    const SafetensorsFile old(path + ".old");
    SafetensorsWriter writer(path);
    for (const TensorInfo& t : old.tensors())
      if (!t.name.ends_with(ending)) writer.add(t);
    writer.commit();
  }
  remove_tree(path + ".old");
}

}  // namespace

TEST_CASE("every set of biases goes through a GGUF file and gives the same function", "[checkpoint][gguf]") {
  const TemporaryDirectory dir;
  for (unsigned bits = 0; bits < 128; bits += std::popcount(bits) == 1 ? 1 : 6) {
    CAPTURE(bits);
    Model model = model_with(Family::llama, biases_of(bits));
    save_gguf(model, nullptr, dir / "m.gguf", {.type = GgufType::f32});
    Model again = Model::from_pretrained(dir / "m.gguf");
    CHECK(again.config().biases == model.config().biases);
    CHECK(again.config().parameter_count() == model.config().parameter_count());
    CHECK(outputs(again) == outputs(model));
  }
}

TEST_CASE("a Hugging Face directory has zeros for the biases that its keys ask for and the model lacks",
          "[checkpoint]") {
  for (const unsigned bits : {0u, 1u, 7u, 8u, 16u, 32u, 64u, 1u + 64u, 127u}) {
    CAPTURE(bits);
    const TemporaryDirectory dir;
    Model model = model_with(Family::llama, biases_of(bits));
    model.save_pretrained(dir.path());
    const Json json = Json::parse_file(dir / "config.json");
    CHECK(json.at("attention_bias").as_bool() == ((bits & 15u) != 0));
    CHECK(json.at("mlp_bias").as_bool() == ((bits & 112u) != 0));
    Model again = Model::from_pretrained(dir.path());
    CHECK(again.notes().empty());
    CHECK(outputs(again) == outputs(model));
  }
  CHECK_THAT(refusal([&] {
               const TemporaryDirectory dir;
               model_with(Family::qwen2, biases_of(15)).save_pretrained(dir.path());
             }),
             contains("o_proj has biases") && contains("qwen2"));
  CHECK_THAT(refusal([&] {
               const TemporaryDirectory dir;
               model_with(Family::qwen3, biases_of(64)).save_pretrained(dir.path());
             }),
             contains("feed-forward maps have biases") && contains("qwen3"));
}

TEST_CASE("biases that config.json asks for and no layer has are left out with a note", "[checkpoint]") {
  const TemporaryDirectory dir;
  Model model = model_with(Family::llama, biases_of(127));
  model.save_pretrained(dir.path());
  leave_out(dir.path(), "o_proj.bias");
  leave_out(dir.path(), "up_proj.bias");
  Model without = Model::from_pretrained(dir.path());
  CHECK(without.config().biases == biases_of(127 - 8 - 32));
  REQUIRE(without.notes().size() == 1);
  CHECK_THAT(without.notes()[0], contains("self_attn.o_proj, mlp.up_proj"));
  for (const char* name : {"o_proj.bias", "up_proj.bias"})  // zeros compute the same
    for (Parameter<float, Cpu>* p : model.parameters())
      if (p->name.ends_with(name)) p->value.fill_zero();
  CHECK(max_difference(outputs(without).data(), outputs(model).data(), 6 * 8) < Tolerance<float>::model);

  const TemporaryDirectory saved;
  without.save_pretrained(saved.path());
  Model again = Model::from_pretrained(saved.path());
  CHECK(again.notes().empty());
  CHECK(outputs(again) == outputs(model));

  // A bias that one layer has and another has not is a damaged directory.
  leave_out(dir.path(), "layers.1.self_attn.q_proj.bias");
  CHECK_THAT(refusal([&] { Model::from_pretrained(dir.path()); }),
             contains("model.layers.1.self_attn.q_proj.bias\" [16] is missing"));
}

TEST_CASE("keys follow the biases where config.json asked for more than the files hold", "[checkpoint]") {
  const TemporaryDirectory dir, saved;
  model_with(Family::llama, biases_of(127)).save_pretrained(dir.path());
  for (const char* name : {"q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"}) leave_out(dir.path(), name);
  Model model = Model::from_pretrained(dir.path());
  CHECK(model.config().biases == biases_of(112));
  model.save_pretrained(saved.path());
  CHECK_FALSE(Json::parse_file(saved / "config.json").at("attention_bias").as_bool());
  CHECK(Json::parse_file(saved / "config.json").at("mlp_bias").as_bool());
  Model again = Model::from_pretrained(saved.path());
  CHECK(again.config().biases == biases_of(112));
  CHECK(outputs(again) == outputs(model));
}

TEST_CASE("a bias that a GGUF file holds in one layer only is 0 in the others, with a note", "[checkpoint][gguf]") {
  const TemporaryDirectory dir;
  Model model = model_with(Family::llama, biases_of(8 + 16));
  save_gguf(model, nullptr, dir / "all.gguf", {.type = GgufType::f32});
  const GgufFile all(dir / "all.gguf");
  GgufWriter writer(dir / "one.gguf");
  for (const GgufValue& v : all.metadata()) writer.copy(v);
  for (const GgufTensor& t : all.tensors())
    if (t.name != "blk.0.attn_output.bias" && t.name != "blk.1.ffn_gate.bias")
      writer.add(t.name, t.type, t.shape, t.data);
  writer.commit();
  Model one = Model::from_pretrained(dir / "one.gguf");
  REQUIRE(one.notes().size() == 2);
  CHECK_THAT(one.notes()[0], contains("blk.0.attn_output.bias is not there"));
  for (const char* name : {"model.layers.0.self_attn.o_proj.bias", "model.layers.1.mlp.gate_proj.bias"})
    model.find_parameter(name)->value.fill_zero();
  CHECK(outputs(one) == outputs(model));
}
