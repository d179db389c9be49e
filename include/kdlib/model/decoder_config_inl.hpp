// SPDX-License-Identifier: Apache-2.0
// Bodies of decoder_config.hpp.
#ifndef KDLIB_MODEL_DECODER_CONFIG_INL_HPP
#define KDLIB_MODEL_DECODER_CONFIG_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "kdlib/core/fields.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC const char* family_name(Family family) {
  switch (family) {
    case Family::qwen2:
      return "qwen2";
    case Family::qwen3:
      return "qwen3";
    case Family::qwen3_moe:
      return "qwen3_moe";
    case Family::qwen2_moe:
      return "qwen2_moe";
    case Family::gpt_oss:
      return "gpt_oss";
    case Family::mistral:
      return "mistral";
    case Family::gemma2:
      return "gemma2";
    case Family::gemma3:
      return "gemma3_text";
    default:
      return "llama";
  }
}

KDLIB_FUNC std::int64_t DecoderConfig::mixtures() const {
  std::int64_t n = 0;
  for (const std::uint8_t flag : sparse) n += flag;
  return n;
}

KDLIB_FUNC double DecoderConfig::attention_scale() const { return 1.0 / std::sqrt(score_divisor()); }

KDLIB_FUNC std::int64_t DecoderConfig::count_parameters(std::int64_t experts) const {
  const std::int64_t q = query_heads * head_size, kv = kv_heads * head_size, h = hidden_size, i = intermediate_size;
  std::int64_t attention = 2 * q * h + 2 * kv * h + (is_gemma() ? 4 : 2) * h;
  attention += (biases.q ? q : 0) + (biases.k ? kv : 0) + (biases.v ? kv : 0) + (biases.o ? h : 0);
  if (head_norm()) attention += 2 * head_size;
  if (has_sinks()) attention += query_heads;
  const std::int64_t dense = 3 * h * i + (biases.gate ? i : 0) + (biases.up ? i : 0) + (biases.down ? h : 0);
  const std::int64_t maps = 3 * h * moe.intermediate;
  std::int64_t mixture = moe.experts * (h + (moe.biases ? 1 : 0)) +
                         (moe.shares_cores() ? maps + experts * moe.factor_values(h)
                                             : experts * (maps + (moe.biases ? 2 * moe.intermediate + h : 0)));
  if (moe.shared > 0) mixture += 3 * h * moe.shared + h;
  return layers * attention + mixtures() * mixture + (layers - mixtures()) * dense + h +
         vocab_size * h * (tied_head ? 1 : 2);
}

KDLIB_FUNC std::int64_t DecoderConfig::parameter_count() const { return count_parameters(moe.experts); }
KDLIB_FUNC std::int64_t DecoderConfig::active_parameter_count() const { return count_parameters(moe.active); }

namespace detail {

/// Positions are counted in 32 bits.
constexpr std::int64_t longest_context = std::numeric_limits<std::int32_t>::max();

KDLIB_FUNC void check_rope(const RopeSettings& rope, const std::string& where) {
  // NaN and infinities, which GGUF files can hold, are none of these numbers.
  require<ConfigError>(rope.theta > 0 && std::isfinite(rope.theta), "[decoder] ", where, ": rope_theta is ",
                       setting_text(rope.theta), "; it must be positive");
  require<ConfigError>(rope.factor >= 1 && std::isfinite(rope.factor), "[decoder] ", where,
                       ": the rope scaling's factor is ", setting_text(rope.factor), "; it must be at least 1");
  require<ConfigError>(rope.original_length >= 0 && rope.original_length <= longest_context, "[decoder] ", where,
                       ": original_max_position_embeddings is ", setting_text(rope.original_length),
                       "; it must be from 0 to ", longest_context);
  if (rope.kind == RopeScalingKind::llama3 || rope.kind == RopeScalingKind::yarn)
    require<ConfigError>(rope.original_length > 0, "[decoder] ", where,
                         ": original_max_position_embeddings must be positive");
  if (rope.kind == RopeScalingKind::llama3)
    require<ConfigError>(rope.low_frequency_factor > 0 && rope.high_frequency_factor > rope.low_frequency_factor,
                         "[decoder] ", where, ": high_freq_factor must be above low_freq_factor, and both positive");
}

}  // namespace detail

KDLIB_FUNC void DecoderConfig::check(const std::string& where) const {
  struct Field {
    const char* name;
    std::int64_t value, limit;
  };
  const std::int64_t wide = std::int64_t{1} << 24;
  for (const Field f : {Field{"vocab_size", vocab_size, wide}, Field{"hidden_size", hidden_size, wide},
                        Field{"intermediate_size", intermediate_size, wide}, Field{"num_hidden_layers", layers, 4096},
                        Field{"num_attention_heads", query_heads, 65536}, Field{"num_key_value_heads", kv_heads, 65536},
                        Field{"head_dim", head_size, 65536}})
    require<ConfigError>(f.value > 0 && f.value <= f.limit, "[decoder] ", where, ": ", f.name, " is ", f.value,
                         "; it must be from 1 to ", f.limit);
  require<ConfigError>(context_length >= 0 && context_length <= detail::longest_context, "[decoder] ", where,
                       ": max_position_embeddings is ", context_length, "; it must be from 0 (unknown) to ",
                       detail::longest_context);
  for (const std::int64_t window : windows)
    require<ConfigError>(window >= 0 && window <= detail::longest_context, "[decoder] ", where, ": sliding_window is ",
                         window, "; it must be from 0 to ", detail::longest_context);
  require<ConfigError>(query_heads % kv_heads == 0, "[decoder] ", where, ": num_attention_heads ", query_heads,
                       " is not a multiple of num_key_value_heads ", kv_heads);
  require<ConfigError>(head_size % 2 == 0, "[decoder] ", where, ": head_dim ", head_size, " is odd; it must be even");
  require<ConfigError>(norm_epsilon > 0 && norm_epsilon < 1, "[decoder] ", where,
                       ": rms_norm_eps must be between 0 and 1");
  detail::check_rope(rope, where);
  if (sliding_rope) detail::check_rope(*sliding_rope, where);
  require<ConfigError>(query_scalar >= 0 && query_scalar <= 1e9, "[decoder] ", where, ": query_pre_attn_scalar is ",
                       setting_text(query_scalar), "; it must be from 0 (head_dim) to 1e9");
  require<ConfigError>(
      attention_softcap >= 0 && final_softcap >= 0 && std::isfinite(attention_softcap) && std::isfinite(final_softcap),
      "[decoder] ", where, ": soft caps must not be negative or infinite");
  require<ConfigError>(windows.empty() || static_cast<std::int64_t>(windows.size()) == layers, "[decoder] ", where,
                       ": ", windows.size(), " layer types for ", layers, " layers");
  require<ConfigError>(sparse.empty() || static_cast<std::int64_t>(sparse.size()) == layers, "[decoder] ", where, ": ",
                       sparse.size(), " flags of sparse layers for ", layers, " layers");
  if (mixtures() > 0) {
    for (const Field f : {Field{"num_experts", moe.experts, 65536}, Field{"num_experts_per_tok", moe.active, 65536},
                          Field{"moe_intermediate_size", moe.intermediate, wide},
                          Field{"shared_expert_intermediate_size", moe.shared + 1, wide}})
      require<ConfigError>(f.value > 0 && f.value <= f.limit, "[decoder] ", where, ": ", f.name, " is ", f.value,
                           "; it must be from 1 to ", f.limit);
    require<ConfigError>(moe.active <= moe.experts, "[decoder] ", where, ": num_experts_per_tok ", moe.active,
                         " is above num_experts ", moe.experts);
    require<ConfigError>(moe.activation.limit >= 0, "[decoder] ", where, ": swiglu_limit must not be negative");
    const std::int64_t largest_rank = std::min(hidden_size, moe.intermediate);
    require<ConfigError>(moe.core_rank >= 0 && moe.core_rank <= largest_rank, "[decoder] ", where,
                         ": compression_config.rank is ", moe.core_rank, "; experts [", moe.intermediate, ", ",
                         hidden_size, "] allow 1 to ", largest_rank);
    require<ConfigError>(!moe.shares_cores() || family == Family::qwen3_moe || family == Family::qwen2_moe,
                         "[decoder] ", where, ": experts of model_type ", family_name(family),
                         " cannot share cores; those of qwen3_moe and qwen2_moe can");
  }
  require<ConfigError>(dtype == "float32" || dtype == "bfloat16" || dtype == "float16", "[decoder] ", where, ": dtype ",
                       dtype, " is not supported; it can be float32, bfloat16 or float16");
}

KDLIB_NAMESPACE_END

#endif
