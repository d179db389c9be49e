// SPDX-License-Identifier: Apache-2.0
// Models from GGUF files: the metadata become the same config, rows of q and k go back to their places, logits equal
// transformers'.
#include <algorithm>

#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

void check(const std::string& path, const std::string& logits_name) {
  Model model = Model::from_pretrained(path);
  CHECK(model.notes().empty());
  const SafetensorsFile expected(reference_file("gguf/tiny_llama.safetensors"));
  const auto ids = read_as<std::int64_t>(expected.at("ids"));
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>(ids.begin(), ids.end()));
  const std::vector<float> logits = logits_of(model, model.forward(batch)),
                           wanted = read_as<float>(expected.at(logits_name));
  REQUIRE(logits.size() == wanted.size());
  CHECK(max_difference(logits.data(), wanted.data(), wanted.size()) < Tolerance<float>::model);
  const DecoderConfig& c = model.config();
  const DecoderConfig hf = read_hf_config(reference_file("models/llama"));
  CHECK(c.parameter_count() == hf.parameter_count());
  CHECK(c.head_size == hf.head_size);
  CHECK(c.kv_heads == hf.kv_heads);
  CHECK(std::abs(c.norm_epsilon / hf.norm_epsilon - 1) < 1e-6);  // stored as a float
  CHECK(c.rope.theta == hf.rope.theta);
  CHECK(c.tied_head);
}

}  // namespace

TEST_CASE("a Q8_0 GGUF file gives transformers' logits", "[model][gguf]") {
  check(reference_file("gguf/tiny_llama_q8_0.gguf"), "logits.q8_0.transformers");
}

TEST_CASE("an F32 GGUF file gives transformers' logits and llama.cpp's", "[model][gguf]") {
  const auto path = shared_file("reference/quant/tiny_llama_f32.gguf");
  if (!path) KDLIB_SKIP("reference/quant/tiny_llama_f32.gguf is not here (set KDLIB_SHARED_DIR)");
  check(*path, "logits.f32.transformers");
  check(*path, "logits.f32.llama_cpp");
  Model from_gguf = Model::from_pretrained(*path),
        from_directory = Model::from_pretrained(reference_file("models/llama"));
  for (const Parameter<float, Cpu>* p : from_directory.parameters()) {
    CAPTURE(p->name);
    CHECK(max_difference(p->value.data(), from_gguf.find_parameter(p->name)->value.data(),
                         static_cast<std::size_t>(p->value.count())) == 0);
  }
}

TEST_CASE("a model from GGUF saved as a Hugging Face directory is the same model", "[model][gguf]") {
  Model model = Model::from_pretrained(reference_file("gguf/tiny_llama_q8_0.gguf"));
  const TemporaryDirectory folder;
  model.save_pretrained(folder.path());
  Model again = Model::from_pretrained(folder.path());
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 2, 3});
  CHECK(max_difference(model.forward(batch).data(), again.forward(batch).data(), 3 * 64) == 0);
}

TEST_CASE("rows of q and k: old rows 0 1 2 3 stand as 0 2 1 3 in a GGUF file", "[model][gguf]") {
  detail::GgufPart part;
  const std::int64_t four[] = {0, 2, 1, 3}, eight[] = {0, 4, 1, 5, 2, 6, 3, 7};  // position in the file -> old row
  part.head = 4;
  for (std::int64_t i = 0; i < 4; ++i) CHECK(part.source(i) == four[i]);
  part.head = 8;
  for (std::int64_t i = 0; i < 8; ++i) CHECK(part.source(8 + i) == 8 + eight[i]);
}

TEST_CASE("files of the Python package gguf give the parameters of every architecture", "[model][gguf]") {
  for (const Family family :
       {Family::llama, Family::qwen2, Family::qwen3, Family::qwen2_moe, Family::qwen3_moe, Family::gpt_oss}) {
    CAPTURE(family_name(family));
    std::string name = detail::gguf_architecture(family);
    std::replace(name.begin(), name.end(), '-', '_');
    DecoderConfig config = golden_config(family);
    if (family == Family::gpt_oss) config.moe.activation.limit = 7;
    Model wanted = Model::from_config(config, 1);
    fill_golden(wanted);
    Model model = Model::from_pretrained(reference_file("gguf/golden_" + name + ".gguf"));
    CHECK(model.notes().empty());
    REQUIRE(model.parameters().size() == wanted.parameters().size());
    for (const Parameter<float, Cpu>* p : wanted.parameters()) {
      CAPTURE(p->name);
      const Parameter<float, Cpu>* q = model.find_parameter(p->name);
      REQUIRE(q != nullptr);
      REQUIRE(q->value.shape() == p->value.shape());
      CHECK(max_difference(p->value.data(), q->value.data(), static_cast<std::size_t>(p->value.count())) == 0);
    }
    TokenBatch batch;
    batch.append(std::vector<std::int32_t>{3, 1, 4, 1, 5, 9});
    CHECK(max_difference(model.forward(batch).data(), wanted.forward(batch).data(), 6 * 8) == 0);
    const DecoderConfig& c = model.config();
    CHECK(c.norm_epsilon == config.norm_epsilon);
    CHECK(c.rope.truncate == config.rope.truncate);
    CHECK(c.moe.active == config.moe.active);
    CHECK(c.moe.over_chosen == config.moe.over_chosen);
    CHECK(c.moe.shared == config.moe.shared);
    for (std::int64_t i = 0; i < c.layers; ++i) CHECK(c.window(i) == config.window(i));
  }
}

TEST_CASE("a model in several GGUF files is the model of the one file, and problems name the part", "[model][gguf]") {
  const std::string whole_path = reference_file("gguf/golden_llama.gguf");
  Model whole = Model::from_pretrained(whole_path);
  for (int part = 1; part <= 3; ++part) {
    Model model = Model::from_pretrained(reference_file(concat("gguf/split_llama-0000", part, "-of-00003.gguf")));
    REQUIRE(model.parameters().size() == whole.parameters().size());
    for (const Parameter<float, Cpu>* p : whole.parameters())
      CHECK(max_difference(p->value.data(), model.find_parameter(p->name)->value.data(),
                           static_cast<std::size_t>(p->value.count())) == 0);
  }
  // A part of a model that differs in the width of one tensor only.
  const TemporaryDirectory dir;
  const auto path = [&](int part) { return dir / concat("m-0000", part, "-of-00002.gguf"); };
  const GgufFile file(whole_path);
  for (std::uint32_t part = 0; part < 2; ++part) {
    GgufWriter writer(path(static_cast<int>(part) + 1));
    for (const GgufValue& v : file.metadata())
      if (part == 0) writer.copy(v);
    writer.u32("split.no", part).u32("split.count", 2);
    for (const GgufTensor& t : file.tensors()) {
      const bool odd = t.name == "blk.1.ffn_up.weight";
      if ((t.name.rfind("blk.1.", 0) == 0) != (part == 1)) continue;
      writer.add(t.name, t.type, odd ? Shape{11, 8} : t.shape, odd ? t.data.first(11 * 8 * 4) : t.data);
    }
    writer.commit();
  }
  CHECK_THAT(refusal([&] { Model::from_pretrained(path(1)); }),
             contains("m-00002-of-00002.gguf: blk.1.ffn_up.weight") && contains("the metadata ask for [12, 8]"));
}
