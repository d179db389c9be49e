// SPDX-License-Identifier: Apache-2.0
// Metadata of GGUF files that are written, and what the format has no place for (gguf_save.hpp).
#ifndef KDLIB_CHECKPOINT_GGUF_METADATA_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_METADATA_INL_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/nn/rope_table.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// general.file_type.
KDLIB_FUNC std::uint32_t gguf_file_type(GgufType type) {
  switch (type) {
    case GgufType::f32:
      return 0;
    case GgufType::q4_0:
      return 2;
    case GgufType::q4_1:
      return 3;
    case GgufType::q8_0:
      return 7;
    case GgufType::q5_0:
      return 8;
    case GgufType::q5_1:
      return 9;
    case GgufType::bf16:
      return 32;
    case GgufType::mxfp4:
      return 38;
    default:
      return 1;
  }
}

KDLIB_FUNC void write_gguf_rope(GgufWriter& out, const std::string& a, const DecoderConfig& c) {
  const RopeSettings& r = c.rope;
  out.u32(a + ".rope.dimension_count", static_cast<std::uint32_t>(c.head_size))
      .f32(a + ".rope.freq_base", static_cast<float>(r.theta));
  if (r.kind != RopeScalingKind::linear && r.kind != RopeScalingKind::yarn) return;
  out.string(a + ".rope.scaling.type", r.kind == RopeScalingKind::yarn ? "yarn" : "linear")
      .f32(a + ".rope.scaling.factor", static_cast<float>(r.factor));
  if (r.kind == RopeScalingKind::linear) return;
  out.u32(a + ".rope.scaling.original_context_length", static_cast<std::uint32_t>(r.original_length));
  if (r.beta_fast != 32) out.f32(a + ".rope.scaling.yarn_beta_fast", static_cast<float>(r.beta_fast));
  if (r.beta_slow != 1) out.f32(a + ".rope.scaling.yarn_beta_slow", static_cast<float>(r.beta_slow));
  RopeSettings plain = r;
  plain.attention_factor = plain.mscale = plain.mscale_all = 0;
  const double factor = rope_table_scale(r) / rope_table_scale(plain);
  if (factor != 1) out.f32(a + ".rope.scaling.attn_factor", static_cast<float>(factor));
}

/// Which layers slide; of the architecture's usual pattern the file has no key.
KDLIB_FUNC void write_gguf_windows(GgufWriter& out, const std::string& a, const DecoderConfig& c) {
  const std::int64_t window = c.widest_window();
  std::vector<bool> slides;
  bool usual = true;
  const std::int64_t period = gguf_window_period(c.family);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    require<ConfigError>(c.window(i) == 0 || c.window(i) == window,
                         "[save_gguf] windows of different widths have no place in a GGUF file");
    slides.push_back(c.window(i) > 0);
    usual = usual && slides.back() == (i % period < period - 1);
  }
  if (window == 0 && c.family == Family::gemma3) return;  // without a window no layer slides
  out.u32(a + ".attention.sliding_window", static_cast<std::uint32_t>(window > 0 ? window : c.context_length));
  if (!usual) out.booleans(a + ".attention.sliding_window_pattern", slides);
}

KDLIB_FUNC void write_gguf_config(GgufWriter& out, const DecoderConfig& c) {
  const std::string a = gguf_architecture(c.family);
  const auto number = [&](const char* key, std::int64_t value) { out.u32(a + key, static_cast<std::uint32_t>(value)); };
  number(".context_length", c.context_length), number(".embedding_length", c.hidden_size),
      number(".block_count", c.layers);
  number(".feed_forward_length", c.intermediate_size);
  number(".attention.head_count", c.query_heads), number(".attention.head_count_kv", c.kv_heads);
  number(".attention.key_length", c.head_size), number(".attention.value_length", c.head_size);
  out.f32(a + ".attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_epsilon));
  number(".vocab_size", c.vocab_size);
  write_gguf_rope(out, a, c);
  if (gguf_is_mixture(c.family)) {
    number(".expert_count", c.moe.experts), number(".expert_used_count", c.moe.active),
        number(".expert_feed_forward_length", c.moe.intermediate);
    if (c.moe.shared > 0) number(".expert_shared_feed_forward_length", c.moe.shared);
  }
  if (c.attention_softcap > 0) out.f32(a + ".attn_logit_softcapping", static_cast<float>(c.attention_softcap));
  if (c.final_softcap > 0) out.f32(a + ".final_logit_softcapping", static_cast<float>(c.final_softcap));
  if (c.sliding_rope) out.f32(a + ".rope.freq_base_swa", static_cast<float>(c.sliding_rope->theta));
  if (gguf_window_period(c.family) > 0) write_gguf_windows(out, a, c);
}

KDLIB_FUNC GgufType gguf_tensor_type(const GgufPart& part, GgufType wanted, std::vector<std::string>& notes) {
  if (part.width == 1 || part.shape.rank() == 1 || part.name.find(".ffn_gate_inp") != std::string::npos)
    return GgufType::f32;
  const bool expert = part.name.find("_exps.") != std::string::npos;
  const GgufType type = wanted == GgufType::mxfp4 && !expert ? GgufType::bf16 : wanted;
  if (part.width % static_cast<std::int64_t>(block_size(type)) == 0) return type;
  notes.push_back(concat(part.name, " is F16: rows of ", part.width, " values do not divide into ",
                         gguf_type_name(type), " blocks of ", block_size(type)));
  return GgufType::f16;
}

KDLIB_FUNC std::vector<float> gguf_rope_divisors(const DecoderConfig& c) {
  if (c.rope.kind != RopeScalingKind::llama3 && c.rope.divisors.empty()) return {};
  RopeSettings plain = c.rope;
  plain.kind = RopeScalingKind::none;
  plain.divisors.clear();
  const std::vector<double> base = rope_frequencies(plain, c.head_size), scaled = rope_frequencies(c.rope, c.head_size);
  std::vector<float> out;
  for (std::size_t j = 0; j < base.size(); ++j) out.push_back(static_cast<float>(base[j] / scaled[j]));
  return out;
}

/// Ids of config.json that the tokenizer does not give. Readers refuse an id that no token has.
KDLIB_FUNC void write_gguf_model_ids(GgufWriter& out, const DecoderConfig& c, const Tokenizer* tokenizer,
                                     std::vector<std::string>& notes) {
  const auto id = [&](const char* key, std::int32_t value) {
    if (value < 0 || out.has(key)) return;
    if (tokenizer == nullptr || tokenizer->has_token(value)) out.u32(key, static_cast<std::uint32_t>(value));
    else notes.push_back(concat(key, " of config.json is ", value, ", which no token has: it is left out"));
  };
  id("tokenizer.ggml.bos_token_id", c.bos_ids.empty() ? -1 : c.bos_ids[0]);
  id("tokenizer.ggml.eos_token_id", c.eos_ids.empty() ? -1 : c.eos_ids[0]);
  id("tokenizer.ggml.padding_token_id", c.pad_id);
}

/// What readers of Gemma's architectures know without a key.
KDLIB_FUNC void check_gguf_gemma(const DecoderConfig& c, const char* a) {
  const double scalar = c.score_divisor();
  require<ConfigError>(scalar == gguf_query_scalar(c), "[save_gguf] query_pre_attn_scalar is ", scalar,
                       "; readers of architecture ", a, " compute with ", gguf_query_scalar(c), " for ", c.layers,
                       " layers");
  require<ConfigError>(c.family == Family::gemma3 || (c.attention_softcap > 0 && c.final_softcap > 0),
                       "[save_gguf] readers of architecture ", a, " cap scores and logits; the caps are ",
                       c.attention_softcap, " and ", c.final_softcap);
  require<ConfigError>(c.family == Family::gemma3 || c.tied_head, "[save_gguf] readers of architecture ", a,
                       " take the embedding as the head; this model's head is a weight of its own");
  require<ConfigError>(!c.biases.attention(), "[save_gguf] biases have no place in architecture ", a);
  require<ConfigError>(!c.sliding_rope || c.sliding_rope->kind == RopeScalingKind::none,
                       "[save_gguf] scaled angles of the layers that slide have no place in architecture ", a);
  require<ConfigError>(c.family == Family::gemma3 || !c.sliding_rope || c.sliding_rope->theta == c.rope.theta,
                       "[save_gguf] angles by layer type have no place in architecture ", a);
}

KDLIB_FUNC void write_gguf_metadata(GgufWriter& out, const DecoderConfig& c, const Tokenizer* tokenizer,
                                    const GgufSaveSettings& settings, std::vector<std::string>& notes) {
  out.string("general.architecture", gguf_architecture(c.family)).string("general.type", "model");
  if (!settings.name.empty()) out.string("general.name", settings.name);
  out.u32("general.file_type", gguf_file_type(settings.type)).u32("general.quantization_version", 2);
  write_gguf_config(out, c);
  if (tokenizer != nullptr) notes = write_gguf_tokenizer(*tokenizer, c.vocab_size, out);
  else out.string("tokenizer.ggml.model", "none");
  write_gguf_model_ids(out, c, tokenizer, notes);
}

}  // namespace detail

KDLIB_FUNC void check_gguf_config(const DecoderConfig& c) {
  const char* a = detail::gguf_architecture(c.family);
  const std::int64_t widest = c.widest_window();
  if (c.is_gemma()) detail::check_gguf_gemma(c, a);
  require<ConfigError>(!c.moe.shares_cores(),
                       "[save_gguf] experts that share cores have no place in a GGUF file of "
                       "architecture ",
                       a, "; materialise() makes plain experts of them (convert --materialise)");
  require<ConfigError>(detail::gguf_window_period(c.family) > 0 || widest == 0 || widest >= c.context_length,
                       "[save_gguf] sliding windows of ", widest, " keys have no place in a GGUF file of architecture ",
                       a, ": other readers would let every query see every key");
  if (c.mixtures() > 0 && c.family != Family::gpt_oss)
    require<ConfigError>(c.moe.over_chosen == (c.family == Family::qwen3_moe), "[save_gguf] norm_topk_prob is ",
                         c.moe.over_chosen ? "true" : "false", "; readers of architecture ", a, " compute the other");
  if (c.family == Family::gpt_oss)
    require<ConfigError>(c.moe.activation.alpha == 1.702 && c.moe.activation.limit == 7.0, "[save_gguf] swiglu_alpha ",
                         c.moe.activation.alpha, " and swiglu_limit ", c.moe.activation.limit,
                         "; readers of architecture gpt-oss compute with 1.702 and 7");
  const RopeSettings& r = c.rope;
  const bool scaled = r.kind == RopeScalingKind::llama3 || !r.divisors.empty();
  require<ConfigError>(
      !scaled || c.family == Family::llama || c.family == Family::mistral,
      "[save_gguf] frequencies with divisors (rope_type llama3) have a place in architecture llama only, not in ", a);
  if (r.kind == RopeScalingKind::yarn)
    require<ConfigError>(r.truncate == (c.family != Family::gpt_oss), "[save_gguf] YaRN with truncate ",
                         r.truncate ? "true" : "false", " has no place in architecture ", a);
}

KDLIB_NAMESPACE_END

#endif
