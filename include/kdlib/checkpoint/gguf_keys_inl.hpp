// SPDX-License-Identifier: Apache-2.0
// Keys of GGUF metadata that would change the function and that the model does not compute (gguf_config of
// hf_config.hpp).
#ifndef KDLIB_CHECKPOINT_GGUF_KEYS_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_KEYS_INL_HPP

#include <cmath>

#include "kdlib/io/gguf.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A key behind the architecture's name and the two numbers that leave the function as it is.
struct RefusedGgufKey {
  const char* key;
  double neutral, other;
};

constexpr RefusedGgufKey refused_gguf_keys[] = {
    {".attn_logit_softcapping", 0, 0},
    {".final_logit_softcapping", 0, 0},
    {".router_logit_softcapping", 0, 0},
    {".logit_scale", 1, 0},
    {".embedding_scale", 1, 0},
    {".residual_scale", 1, 0},
    {".attention.clamp_kqv", 0, 0},
    {".attention.max_alibi_bias", 0, 0},
    {".attention.output_scale", 1, 0},
    {".attention.temperature_length", 0, 0},
    {".attention.temperature_scale", 0, 0},
    {".attention.chunk_size", 0, 0},
    {".attention.q_lora_rank", 0, 0},
    {".attention.kv_lora_rank", 0, 0},
    {".attention.group_norm_groups", 0, 0},
    {".attention.shared_kv_layers", 0, 0},
    {".use_parallel_residual", 0, 0},
    {".swin_norm", 0, 0},
    {".leading_dense_block_count", 0, 0},
    {".interleave_moe_layer_step", 0, 1},
    {".moe_every_n_layers", 0, 1},
    {".expert_group_used_count", 0, 1},
    {".expert_weights_bias", 0, 0},
    {".pooling_type", 0, 0},
};

KDLIB_FUNC bool gguf_is_number(const GgufValue& v) { return !v.is_array() && v.kind() != GgufValue::Kind::string; }

/// True for keys of refused_gguf_keys that the family computes.
KDLIB_FUNC bool gguf_computes(Family family, std::string_view key) {
  if (key == ".attn_logit_softcapping") return family == Family::gemma2;
  return key == ".final_logit_softcapping" && (family == Family::gemma2 || family == Family::gemma3);
}

/// ConfigError naming the first key whose value would change the function.
KDLIB_FUNC void refuse_gguf_keys(const GgufFile& file, const std::string& a, const DecoderConfig& c) {
  const auto number = [](const GgufValue& v) {
    return v.kind() == GgufValue::Kind::boolean ? (v.as_bool() ? 1.0 : 0.0) : v.as_double();
  };
  const auto refuse = [&](bool odd, const std::string& key, const auto& value) {
    require<ConfigError>(!odd, "[decoder] ", file.path(), ": ", key, " is ", value,
                         ", which is not supported: the model would compute another function without it");
  };
  for (const RefusedGgufKey& refused : refused_gguf_keys) {
    const GgufValue* v = file.find(a + refused.key);
    if (v == nullptr || gguf_computes(c.family, refused.key)) continue;
    const double x = gguf_is_number(*v) ? number(*v) : -1;
    refuse(x != refused.neutral && x != refused.other, a + refused.key, x);
  }
  if (const GgufValue* v = file.find(a + ".attention.scale"); v != nullptr && gguf_is_number(*v)) {
    const double x = number(*v) / c.attention_scale();
    refuse(x != 0 && std::abs(x - 1) > 1e-5, a + ".attention.scale", number(*v));
  }
  if (const GgufValue* v = file.find(a + ".attention.causal"))
    refuse(v->kind() == GgufValue::Kind::boolean && !v->as_bool(), a + ".attention.causal", "false");
  refuse(file.find(a + ".rope.dimension_sections") != nullptr, a + ".rope.dimension_sections", "set");
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
