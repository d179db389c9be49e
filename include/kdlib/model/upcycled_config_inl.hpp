// SPDX-License-Identifier: Apache-2.0
// The configuration of a mixture that is made of a dense model (upcycle.hpp).
#ifndef KDLIB_MODEL_UPCYCLED_CONFIG_INL_HPP
#define KDLIB_MODEL_UPCYCLED_CONFIG_INL_HPP

#include <cmath>

#include "kdlib/core/error.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/model/upcycle.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC DecoderConfig upcycled_config(const DecoderConfig& dense, const UpcycleSettings& s) {
  const char* family = family_name(dense.family);
  require<ConfigError>(dense.mixtures() == 0 && dense.family != Family::gpt_oss, "[upcycle] the model (", family,
                       ") is a mixture of ", dense.moe.experts, " experts already; it needs a dense one");
  require<ConfigError>(s.experts >= 1 && s.experts <= 65536, "[upcycle] experts is ", s.experts,
                       "; it must be from 1 to 65536");
  require<ConfigError>(s.active >= 1 && s.active <= s.experts, "[upcycle] active is ", s.active,
                       "; it must be from 1 to experts ", s.experts);
  require<ConfigError>(std::isfinite(s.noise) && s.noise >= 0, "[upcycle] noise is ", setting_text(s.noise),
                       "; it must be 0 or above");
  require<ConfigError>(std::isfinite(s.router_deviation) && s.router_deviation >= 0, "[upcycle] router_deviation is ",
                       setting_text(s.router_deviation), "; it must be 0 or above");
  require<ConfigError>(!dense.is_gemma(), "[upcycle] the model (", family,
                       ") has norms, gates and caps of which qwen2_moe has none");
  const bool qwen3 = dense.family == Family::qwen3;
  require<ConfigError>(!dense.biases.feed_forward(), "[upcycle] the feed-forward maps of the model (", family,
                       ") have biases, for which the experts of ", qwen3 ? "qwen3_moe" : "qwen2_moe", " have no place");
  require<ConfigError>(qwen3 || !dense.biases.o, "[upcycle] o_proj of the model (", family,
                       ") has biases, for which qwen2_moe has no place");
  DecoderConfig c = dense;
  c.family = qwen3 ? Family::qwen3_moe : Family::qwen2_moe;
  c.moe = {.experts = s.experts, .active = s.active, .intermediate = dense.intermediate_size};
  if (!qwen3) c.moe.shared = dense.intermediate_size;
  c.sparse.assign(static_cast<std::size_t>(dense.layers), s.layers.empty() ? 1 : 0);
  for (const std::int64_t layer : s.layers) {
    require<ConfigError>(layer >= 0 && layer < dense.layers, "[upcycle] layers names layer ", layer, " of ",
                         dense.layers, "; they count from 0");
    c.sparse[static_cast<std::size_t>(layer)] = 1;
  }
  c.source_json.clear();  // its keys describe the dense model
  c.check("upcycle");
  return c;
}

KDLIB_NAMESPACE_END

#endif
