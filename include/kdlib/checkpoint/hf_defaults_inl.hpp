// SPDX-License-Identifier: Apache-2.0
// What config.json of Mistral and Gemma means where transformers' classes have defaults of their own, and Gemma's keys
// (hf_config.hpp). Source: transformers 5.24, models/{mistral,gemma2,gemma3}/configuration_*.py.
#ifndef KDLIB_CHECKPOINT_HF_DEFAULTS_INL_HPP
#define KDLIB_CHECKPOINT_HF_DEFAULTS_INL_HPP

#include "kdlib/checkpoint/hf_config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// sliding_window where the key is missing.
KDLIB_FUNC std::int64_t default_window(Family family) {
  return family == Family::mistral || family == Family::gemma2 || family == Family::gemma3 ? 4096 : 0;
}

/// max_position_embeddings where the key is missing.
KDLIB_FUNC std::int64_t default_length(Family family) {
  if (family == Family::gemma2) return 8192;
  return family == Family::mistral || family == Family::gemma3 ? 131072 : 2048;
}

/// hidden_act, or Gemma's hidden_activation.
KDLIB_FUNC void check_activation(const Json& json, Family family, const std::string& where) {
  const bool gemma = family == Family::gemma2 || family == Family::gemma3;
  const std::string wanted = gemma ? "gelu_pytorch_tanh" : "silu";
  for (const char* key : {"hidden_act", "hidden_activation"}) {
    if (!gemma && key == std::string_view("hidden_activation")) continue;  // refuse_other_functions() looks at it
    const std::string act = json.string_or(key, wanted);
    require<ConfigError>(act == wanted, "[decoder] ", where, ": ", key, " \"", act, "\" is not supported; ", wanted,
                         " is");
  }
}

/// Scale of the scores and soft caps.
KDLIB_FUNC void parse_gemma(const Json& json, DecoderConfig& c, const std::string& where) {
  const auto cap = [&](const char* key, double otherwise) {
    const double value = json.contains(key) ? json.double_or(key, 0) : otherwise;
    require<ConfigError>(value >= 0, "[decoder] ", where, ": ", key, " is ", value, "; it must not be negative");
    return value;
  };
  c.query_scalar = json.double_or("query_pre_attn_scalar", 256);
  require<ConfigError>(c.query_scalar > 0, "[decoder] ", where, ": query_pre_attn_scalar is ", c.query_scalar,
                       "; it must be positive");
  const bool second = c.family == Family::gemma2;
  c.final_softcap = cap("final_logit_softcapping", second ? 30 : 0);
  c.attention_softcap = cap("attn_logit_softcapping", second ? 50 : 0);
  require<ConfigError>(second || c.attention_softcap == 0, "[decoder] ", where, ": attn_logit_softcapping is ",
                       c.attention_softcap, "; model_type ", family_name(c.family),
                       " does not cap its scores (transformers reads the key and leaves it out)");
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
