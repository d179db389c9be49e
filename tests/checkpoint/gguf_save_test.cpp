// SPDX-License-Identifier: Apache-2.0
// Models written as GGUF files: bytes of another writer, parameters that come back, tokenizers, refusals.
#include <algorithm>

#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/save.hpp"

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/text/tokenizer_writer.hpp"
#include "model/reference_models.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

const std::vector<std::string> models = {"llama",     "llama3_rope_bias", "qwen2",         "qwen3", "qwen2_moe",
                                         "qwen3_moe", "gpt_oss",          "gpt_oss_mxfp4", "gemma2"};

double largest_difference(Model& a, Model& b) {
  double worst = a.parameters().size() == b.parameters().size() ? 0 : 1e9;
  for (const Parameter<float, Cpu>* p : a.parameters()) {
    const Parameter<float, Cpu>* q = b.find_parameter(p->name);
    if (q == nullptr || !(q->value.shape() == p->value.shape())) return 1e9;
    worst =
        std::max(worst, max_difference(p->value.data(), q->value.data(), static_cast<std::size_t>(p->value.count())));
  }
  return worst;
}

template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "nothing was refused";
}

}  // namespace

TEST_CASE("the tiny Llama as Q8_0 has the bytes that the Python package gguf wrote", "[model][gguf]") {
  const GgufFile wanted(reference_file("gguf/tiny_llama_q8_0.gguf"));
  const Model model = Model::from_pretrained(reference_file("models/llama"));
  const Tokenizer tokenizer = Tokenizer::from_gguf(wanted);
  const TemporaryDirectory dir;
  const std::vector<std::string> notes =
      save_gguf(model, &tokenizer, dir / "m.gguf", {.type = GgufType::q8_0, .name = "tiny"});
  const GgufFile got(dir / "m.gguf");
  REQUIRE(got.tensors().size() == wanted.tensors().size());
  for (const GgufTensor& t : wanted.tensors()) {
    CAPTURE(t.text());
    const GgufTensor& u = got.tensor(t.name);
    CHECK(u.text() == t.text());
    CHECK(std::equal(u.data.begin(), u.data.end(), t.data.begin(), t.data.end()));
  }
  for (const GgufValue& v : wanted.metadata()) {
    CAPTURE(v.key());
    const GgufValue* u = got.find(v.key());
    REQUIRE(u != nullptr);
    CHECK(u->kind() == v.kind());
    CHECK(std::equal(u->bytes().begin(), u->bytes().end(), v.bytes().begin(), v.bytes().end()));
  }
  std::size_t narrow = 0;
  for (const GgufTensor& t : wanted.tensors()) narrow += t.shape.rank() == 2 && t.type == GgufType::f16;
  CHECK(notes.size() == narrow);
}

TEST_CASE("a model as F32 comes back bit for bit and gives transformers' logits", "[model][gguf]") {
  for (const std::string& name : models) {
    CAPTURE(name);
    const ReferenceModel reference(name);
    Model model = Model::from_pretrained(reference.path);
    const TemporaryDirectory dir;
    CHECK(save_gguf(model, nullptr, dir / "m.gguf", {.type = GgufType::f32}).empty());
    Model again = Model::from_pretrained(dir / "m.gguf");
    CHECK(again.notes().empty());
    const double rounding = name.starts_with("gemma") ? 6e-8 : 0;  // the file holds 1 + weight in float32
    CHECK(largest_difference(model, again) <= rounding);
    CHECK(again.config().parameter_count() == model.config().parameter_count());
    CHECK(again.config().active_parameter_count() == model.config().active_parameter_count());
    CHECK(padded_difference(logits_of(again, again.forward(reference.tokens())), reference.floats("logits"),
                            reference.mask) < Tolerance<float>::model);
    // And as a directory again.
    again.save_pretrained(dir / "hf");
    Model third = Model::from_pretrained(dir / "hf");
    CHECK(largest_difference(again, third) == 0);
    CHECK(padded_difference(logits_of(third, third.forward(reference.tokens())), reference.floats("logits"),
                            reference.mask) < Tolerance<float>::model);
  }
}

TEST_CASE("every type stores what its encoder gives, rows of q and k and of experts in their places", "[model][gguf]") {
  for (const std::string& name : {std::string("llama"), std::string("gpt_oss"), std::string("qwen2_moe")}) {
    Model model = Model::from_pretrained(reference_file("models/" + name));
    for (const GgufType type : {GgufType::f16, GgufType::bf16, GgufType::q8_0, GgufType::q4_0, GgufType::q4_1,
                                GgufType::q5_0, GgufType::q5_1}) {
      CAPTURE(name, gguf_type_name(type));
      const TemporaryDirectory dir;
      save_gguf(model, nullptr, dir / "m.gguf", {.type = type});
      Model again = Model::from_pretrained(dir / "m.gguf");
      const GgufFile file(dir / "m.gguf");
      for (const Parameter<float, Cpu>* p : model.parameters()) {
        CAPTURE(p->name);
        const GgufType stored = file.tensor(detail::gguf_parts(p->name, p->value.shape(), model.config())[0].name).type;
        const std::size_t n = static_cast<std::size_t>(p->value.count());
        const bool whole = n % block_size(stored) == 0;
        REQUIRE(whole);
        std::vector<std::byte> blocks(n / block_size(stored) * block_bytes(stored));
        std::vector<float> wanted(n);
        encode_row(stored, p->value.data(), blocks.data(), n);  // rows are whole blocks, so their order does not matter
        decode_row(stored, blocks.data(), wanted.data(), n);
        CHECK(max_difference(wanted.data(), again.find_parameter(p->name)->value.data(), n) == 0);
      }
    }
  }
}

TEST_CASE("experts of MXFP4 blocks keep their values as MXFP4", "[model][gguf]") {
  Model model = Model::from_pretrained(reference_file("models/gpt_oss_mxfp4"));
  const TemporaryDirectory dir;
  save_gguf(model, nullptr, dir / "m.gguf", {.type = GgufType::mxfp4});
  CHECK(GgufFile(dir / "m.gguf").tensor("blk.1.ffn_up_exps.weight").type == GgufType::mxfp4);
  CHECK(GgufFile(dir / "m.gguf").tensor("blk.1.attn_q.weight").type == GgufType::bf16);
  Model again = Model::from_pretrained(dir / "m.gguf");
  CHECK(largest_difference(model, again) == 0);
}

TEST_CASE("a merged adapter and packed weights are written as the model computes with them", "[model][gguf]") {
  const TemporaryDirectory dir;
  Model model = Model::from_pretrained(reference_file("models/llama"));
  load_adapter(model, reference_file("peft/llama_all_linear"));
  CHECK_THAT(refusal([&] { save_gguf(model, nullptr, dir / "m.gguf"); }), contains("call merge_adapter(model) first"));
  merge_adapter(model);
  save_gguf(model, nullptr, dir / "m.gguf", {.type = GgufType::f32});
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{5, 6, 7, 8});
  Model again = Model::from_pretrained(dir / "m.gguf");
  CHECK(max_difference(model.forward(batch).data(), again.forward(batch).data(), 4 * 64) < Tolerance<float>::model);

  Model packed = Model::from_pretrained(reference_file("models/llama"));
  quantize_linear(packed, {.group_size = 16});
  save_gguf(packed, nullptr, dir / "p.gguf", {.type = GgufType::f32});
  Model unpacked = Model::from_pretrained(dir / "p.gguf");
  for (const Linear<Cpu, float>* l : packed.linears()) {
    const Tensor<float, Cpu> wanted = l->packed()->decode_all();
    CHECK(max_difference(wanted.data(), unpacked.find_parameter(l->path + ".weight")->value.data(),
                         static_cast<std::size_t>(wanted.count())) == 0);
  }
}

TEST_CASE("tokenizer and chat template travel in the file, and from it into a directory", "[model][gguf]") {
  const char* const texts[] = {"Hello, world! It's 2024.", "naïve café 日本語 🙂\n\n  x = 10;",
                               "<|im_start|>user\nHi<|im_end|>\n", "  DON'T\tstop123 "};
  for (const std::string name : {"smollm2", "qwen3", "gpt-oss"}) {
    CAPTURE(name);
    const Tokenizer tokenizer = Tokenizer::from_pretrained(reference_file("text/" + name + ".tokenizer.json"));
    const TemporaryDirectory dir;
    GgufWriter writer(dir / "t.gguf");
    CHECK(write_gguf_tokenizer(tokenizer, tokenizer.vocab_size() + 5, writer).empty());
    writer.commit();
    const Tokenizer second = Tokenizer::from_pretrained(dir / "t.gguf");
    save_tokenizer(second, dir / "hf", 2048);
    const Tokenizer third = Tokenizer::from_pretrained(dir / "hf");
    for (const Tokenizer& again : {second, third}) {
      CHECK(again.content_hash() == tokenizer.content_hash());
      CHECK(again.merge_count() == tokenizer.merge_count());
      CHECK(again.merges() == tokenizer.merges());
      CHECK(again.pre_tokenizer() == tokenizer.pre_tokenizer());
      CHECK(again.stop_ids() == second.stop_ids());
      CHECK(again.chat_template() == tokenizer.chat_template());
      for (const char* text : texts) CHECK(again.encode(text) == tokenizer.encode(text));
    }
    CHECK_THROWS_WITH(([&] {
                        GgufWriter small(dir / "u.gguf");
                        write_gguf_tokenizer(tokenizer, 10, small);
                      }()),
                      contains("the model has 10 rows"));
  }
}

TEST_CASE("ids that no token has are left out with a note, so that readers take the file", "[model][gguf]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "tokenizer.json", read_file(reference_file("text/qwen3.tokenizer.json")));
  std::int32_t missing = 300;
  while (Tokenizer::from_pretrained(dir / "tokenizer.json").has_token(missing)) ++missing;
  write_file_atomically(dir / "generation_config.json", concat("{\"eos_token_id\":[151645,", missing, "]}"));
  const Tokenizer tokenizer = Tokenizer::from_pretrained(dir.path());
  DecoderConfig c = golden_config(Family::llama);
  c.vocab_size = tokenizer.vocab_size();
  c.pad_id = missing;
  const std::vector<std::string> notes =
      save_gguf(Model::from_config(c, 1), &tokenizer, dir / "m.gguf", {.type = GgufType::f32});
  const std::string text = notes.empty() ? "" : concat(notes.front(), notes.back());
  CHECK_THAT(text, contains(concat("id ", missing, " ends an answer, but no token has it")) &&
                       contains(concat("padding_token_id of config.json is ", missing, ", which no token has")));
  const Tokenizer back = Tokenizer::from_pretrained(dir / "m.gguf");
  const std::vector<std::int32_t>& stop = back.stop_ids();
  CHECK(std::count(stop.begin(), stop.end(), 151645) == 1);
  CHECK(std::count(stop.begin(), stop.end(), missing) == 0);
  CHECK(Model::from_pretrained(dir / "m.gguf").config().pad_id == -1);
}

TEST_CASE("what other readers would compute otherwise is not written", "[model][gguf]") {
  const TemporaryDirectory dir;
  const auto refused = [&](const Model& model, GgufType type = GgufType::f32) {
    return refusal([&] { save_gguf(model, nullptr, dir / "m.gguf", {.type = type}); });
  };
  CHECK_THAT(refused(Model::from_pretrained(reference_file("models/qwen2_window"))),
             contains("sliding windows of 5 keys have no place"));
  DecoderConfig c = golden_config(Family::qwen3_moe);
  c.moe.over_chosen = false;
  CHECK_THAT(refused(Model::from_config(c, 1)), contains("norm_topk_prob is false"));
  CHECK_THAT(refused(Model::from_config(golden_config(Family::gpt_oss), 1)), contains("swiglu_limit"));
  c = golden_config(Family::qwen3);
  c.rope.kind = RopeScalingKind::llama3;
  c.rope.factor = 8;
  c.rope.original_length = 32;
  CHECK_THAT(refused(Model::from_config(c, 1)), contains("rope_type llama3"));
  c.rope.kind = RopeScalingKind::yarn;
  c.rope.truncate = false;
  CHECK_THAT(refused(Model::from_config(c, 1)), contains("truncate false"));
  CHECK_THAT(refused(Model::from_config(golden_config(Family::llama), 1), GgufType::mxfp4), contains("llama has none"));
  CHECK_THAT(refused(Model::from_config(golden_config(Family::llama), 1), GgufType::q4_k),
             contains("Q4_K is not written"));
  CHECK_FALSE(exists(dir / "m.gguf"));
}

TEST_CASE("YaRN's and linear scalings and an odd pattern of windows come back", "[model][gguf]") {
  const TemporaryDirectory dir;
  DecoderConfig c = golden_config(Family::gpt_oss);
  c.moe.activation.limit = 7;
  c.windows = {0, 3};
  c.rope.beta_fast = 16;
  c.rope.attention_factor = 1.25;
  save_gguf(Model::from_config(c, 1), nullptr, dir / "a.gguf", {.type = GgufType::f32});
  const DecoderConfig d = Model::from_pretrained(dir / "a.gguf").config();
  CHECK(d.window(0) == 0);
  CHECK(d.window(1) == 3);
  CHECK(d.rope.beta_fast == 16);
  CHECK(std::abs(d.rope.attention_factor - 1.25) < 1e-6);
  CHECK(d.rope.original_length == 4096);
  c = golden_config(Family::llama);
  c.rope.kind = RopeScalingKind::linear;
  c.rope.factor = 2.5;
  save_gguf(Model::from_config(c, 1), nullptr, dir / "b.gguf", {.type = GgufType::f32});
  const RopeSettings r = Model::from_pretrained(dir / "b.gguf").config().rope;
  CHECK(r.kind == RopeScalingKind::linear);
  CHECK(r.factor == 2.5);
}
