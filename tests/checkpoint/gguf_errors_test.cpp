// SPDX-License-Identifier: Apache-2.0
// GGUF files of models that are wrong in one place: the message names the file, the key or tensor, what is expected and
// what is there.
#include <cstring>
#include <tuple>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

std::string refusal(const std::string& path) {
  try {
    Model::from_pretrained(path);
  } catch (const Error& e) {
    CHECK_THAT(std::string(e.what()), contains(path));
    return e.what();
  }
  return "nothing was refused";
}

/// What a copy of a golden file changes.
struct Change {
  std::string leave_out{};  // a key or tensor
  std::string key{};        // gets `value`
  std::uint32_t value = 0;
  std::string tensor{};  // gets `shape`, F32, of zeros
  Shape shape{};
};

std::string changed(const std::string& architecture, const TemporaryDirectory& dir, const Change& change) {
  const GgufFile file(reference_file("gguf/golden_" + architecture + ".gguf"));
  const std::string path = dir / "changed.gguf";
  GgufWriter writer(path);
  for (const GgufValue& v : file.metadata()) {
    if (v.key() == change.leave_out) continue;
    if (v.key() == change.key) writer.u32(v.key(), change.value);
    else writer.copy(v);
  }
  if (!change.key.empty() && !writer.has(change.key)) writer.u32(change.key, change.value);
  const std::vector<float> zeros(change.tensor.empty() ? 0 : static_cast<std::size_t>(change.shape.count()));
  for (const GgufTensor& t : file.tensors()) {
    if (t.name == change.leave_out) continue;
    if (t.name == change.tensor) writer.add(t.name, GgufType::f32, change.shape, std::as_bytes(std::span(zeros)));
    else writer.add(t.name, t.type, t.shape, t.data);
  }
  writer.commit();
  return path;
}

}  // namespace

TEST_CASE("a key that is missing is named", "[model][gguf]") {
  const TemporaryDirectory dir;
  const auto without = [&](const char* architecture, const char* key) {
    CAPTURE(key);
    CHECK_THAT(refusal(changed(architecture, dir, {.leave_out = key})), contains(key));
  };
  for (const char* key :
       {"general.architecture", "llama.embedding_length", "llama.block_count", "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"})
    without("llama", key);
  for (const char* key : {"qwen2moe.expert_count", "qwen2moe.expert_used_count"}) without("qwen2moe", key);
  for (const char* key : {"gpt-oss.expert_count", "gpt-oss.attention.sliding_window", "gpt-oss.rope.scaling.factor",
                          "gpt-oss.rope.scaling.original_context_length"})
    without("gpt_oss", key);
}

TEST_CASE("a width of experts that has no key is taken from the tensors", "[model][gguf]") {
  const TemporaryDirectory dir;
  const DecoderConfig routed =
      Model::from_pretrained(changed("qwen2moe", dir, {.leave_out = "qwen2moe.expert_feed_forward_length"})).config();
  CHECK(routed.moe.intermediate == 6);
  const DecoderConfig shared =
      Model::from_pretrained(changed("qwen2moe", dir, {.leave_out = "qwen2moe.expert_shared_feed_forward_length"}))
          .config();
  CHECK(shared.moe.shared == 10);
}

TEST_CASE("metadata that contradict the tensors are named with both", "[model][gguf]") {
  const TemporaryDirectory dir;
  const auto with = [&](const char* architecture, const char* key, std::uint32_t value) {
    return refusal(changed(architecture, dir, {.key = key, .value = value}));
  };
  CHECK_THAT(with("qwen3moe", "qwen3moe.expert_count", 5),
             contains("blk.0.ffn_gate_inp.weight (F32 [4, 8]): the metadata ask for [5, 8]"));
  CHECK_THAT(with("qwen3moe", "qwen3moe.expert_used_count", 5),
             contains("num_experts_per_tok 5 is above num_experts 4"));
  CHECK_THAT(with("qwen3moe", "qwen3moe.expert_used_count", 0), contains("num_experts_per_tok is 0"));
  CHECK_THAT(with("qwen3moe", "qwen3moe.expert_feed_forward_length", 7),
             contains("blk.0.ffn_gate_exps.weight (F32 [4, 6, 8]): the metadata ask for [4, 7, 8]"));
  CHECK_THAT(with("qwen2moe", "qwen2moe.expert_shared_feed_forward_length", 11),
             contains("blk.0.ffn_gate_shexp.weight (F32 [10, 8]): the metadata ask for [11, 8]"));
  CHECK_THAT(with("qwen2moe", "qwen2moe.block_count", 3), contains("\"blk.2.attn_norm.weight\" [8] is missing"));
  CHECK_THAT(with("qwen3moe", "qwen3moe.expert_gating_func", 2), contains("expert_gating_func 2 is not what"));
  CHECK_THAT(with("gpt_oss", "gpt-oss.attention.sliding_window_pattern", 0xFFFFFFFFu),
             contains("nothing was refused"));  // one long period: all layers slide
  CHECK_THAT(with("llama", "llama.expert_count", 4),
             contains("llama.expert_count: a mixture of experts of architecture llama is not supported"));
  CHECK_THAT(with("llama", "llama.block_count", 4000000000u), contains("llama.block_count is 4000000000"));
  CHECK_THAT(with("llama", "llama.attention.head_count", 3), contains("num_attention_heads 3 is not a multiple"));
}

TEST_CASE("tensors of experts that are missing, turned or of a type that is not decoded are named", "[model][gguf]") {
  const TemporaryDirectory dir;
  CHECK_THAT(refusal(changed("qwen3moe", dir, {.leave_out = "blk.1.ffn_down_exps.weight"})),
             contains("\"blk.1.ffn_down_exps.weight\" [4, 8, 6] is missing"));
  CHECK_THAT(refusal(changed("gpt_oss", dir, {.leave_out = "blk.1.ffn_up_exps.bias"})),
             contains("\"blk.1.ffn_up_exps.bias\" [4, 8] is missing"));
  CHECK_THAT(refusal(changed("gpt_oss", dir, {.leave_out = "blk.0.attn_sinks.weight"})),
             contains("\"blk.0.attn_sinks.weight\" [4] is missing"));
  // Without its router a layer of qwen3moe is a dense one, whose maps are not there.
  CHECK_THAT(refusal(changed("qwen3moe", dir, {.leave_out = "blk.0.ffn_gate_inp.weight"})),
             contains("\"blk.0.ffn_gate.weight\" [12, 8] is missing"));
  CHECK_THAT(refusal(changed("gpt_oss", dir, {.leave_out = "blk.0.ffn_gate_inp.weight"})),
             contains("\"blk.0.ffn_gate_inp.weight\" [4, 8] is missing"));
  CHECK_THAT(refusal(changed("qwen3moe", dir, {.tensor = "blk.0.ffn_down_exps.weight", .shape = Shape{4, 6, 8}})),
             contains("blk.0.ffn_down_exps.weight (F32 [4, 6, 8]): the metadata ask for [4, 8, 6]"));
  CHECK_THAT(refusal(changed("qwen2moe", dir, {.tensor = "blk.0.ffn_gate_inp_shexp.weight", .shape = Shape{7}})),
             contains("blk.0.ffn_gate_inp_shexp.weight (F32 [7]): the metadata ask for [8]"));

  std::string bytes = read_file(reference_file("gguf/golden_qwen3moe.gguf"));
  const std::string name = "blk.1.ffn_up_exps.weight";
  const std::size_t type = bytes.find(name) + name.size() + 4 + 3 * 8;  // behind the rank and three extents
  for (const auto& [id, message] :
       {std::pair{19u, "has type 19, IQ1_S, which is not read"}, std::pair{77u, "has type 77, which is not read"}}) {
    std::memcpy(bytes.data() + type, &id, 4);
    write_file_atomically(dir / "t.gguf", bytes);
    CHECK_THAT(refusal(dir / "t.gguf"), contains(message));
    CHECK_THAT(refusal(dir / "t.gguf"), contains(name));
  }
}

TEST_CASE("an architecture that kdlib does not know, an adapter and one shard of several are refused by name",
          "[model][gguf]") {
  const TemporaryDirectory dir;
  const auto write = [&](const char* architecture, const char* type) {
    GgufWriter writer(dir / "a.gguf");
    writer.string("general.architecture", architecture).string("general.type", type);
    writer.commit();
    return refusal(dir / "a.gguf");
  };
  CHECK_THAT(write("deepseek2", "model"), contains("architecture \"deepseek2\" is not supported; llama, qwen2, qwen3, "
                                                   "qwen2moe, qwen3moe, gpt-oss, gemma2 and gemma3 are"));
  CHECK_THAT(write("llama", "adapter"), contains("general.type is \"adapter\"; a model is needed"));
}

TEST_CASE("metadata that would change the function are refused by key, neutral values are not", "[model][gguf]") {
  const TemporaryDirectory dir;
  for (const auto& [key, odd, neutral] :
       {std::tuple{"llama.attn_logit_softcapping", 50u, 0u}, std::tuple{"llama.logit_scale", 16u, 1u},
        std::tuple{"llama.embedding_scale", 12u, 1u}, std::tuple{"llama.residual_scale", 2u, 1u},
        std::tuple{"llama.attention.scale", 1u, 0u}, std::tuple{"llama.attention.clamp_kqv", 8u, 0u},
        std::tuple{"llama.attention.max_alibi_bias", 8u, 0u}, std::tuple{"llama.use_parallel_residual", 1u, 0u},
        std::tuple{"llama.rope.dimension_count", 2u, 4u}}) {
    CAPTURE(key);
    CHECK_THAT(refusal(changed("llama", dir, {.key = key, .value = odd})), contains(key));
    CHECK(refusal(changed("llama", dir, {.key = key, .value = neutral})) == "nothing was refused");
  }
}

TEST_CASE("linear scaling of rotary angles is read under the older key and without a type", "[model][gguf]") {
  const TemporaryDirectory dir;
  for (const char* key : {"llama.rope.scale_linear", "llama.rope.scaling.factor"}) {
    CAPTURE(key);
    const RopeSettings four = Model::from_pretrained(changed("llama", dir, {.key = key, .value = 4})).config().rope;
    CHECK(four.kind == RopeScalingKind::linear);
    CHECK(four.factor == 4);
    for (const std::uint32_t none : {0u, 1u})
      CHECK(Model::from_pretrained(changed("llama", dir, {.key = key, .value = none})).config().rope.kind ==
            RopeScalingKind::none);
  }
}
