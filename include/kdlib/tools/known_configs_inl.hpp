// SPDX-License-Identifier: Apache-2.0
// Bodies of known_configs.hpp.
#ifndef KDLIB_TOOLS_KNOWN_CONFIGS_INL_HPP
#define KDLIB_TOOLS_KNOWN_CONFIGS_INL_HPP

#include <algorithm>

#include "kdlib/tools/known_configs.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC DecoderConfig qwen2_5_config(std::int64_t layers, std::int64_t hidden, std::int64_t intermediate,
                                              std::int64_t query_heads, std::int64_t kv_heads) {
  DecoderConfig c;
  c.family = Family::qwen2;
  c.vocab_size = 152064;
  c.hidden_size = hidden;
  c.intermediate_size = intermediate;
  c.layers = layers;
  c.query_heads = query_heads;
  c.kv_heads = kv_heads;
  c.head_size = 128;
  c.norm_epsilon = 1e-6;
  c.rope.theta = 1e6;
  c.context_length = 32768;
  c.biases.q = c.biases.k = c.biases.v = true;
  c.bos_ids = {151643};
  c.eos_ids = {151645};
  c.dtype = "bfloat16";
  return c;
}

KDLIB_TOOLS_FUNC DecoderConfig gpt_oss_config(std::int64_t layers, std::int64_t experts) {
  DecoderConfig c;
  c.family = Family::gpt_oss;
  c.vocab_size = 201088;
  c.hidden_size = c.intermediate_size = 2880;
  c.layers = layers;
  c.query_heads = 64;
  c.kv_heads = 8;
  c.head_size = 64;
  c.norm_epsilon = 1e-5;
  c.rope.theta = 150000;
  c.rope.kind = RopeScalingKind::yarn;
  c.rope.factor = 32;
  c.rope.original_length = 4096;
  c.rope.truncate = false;
  c.context_length = 131072;
  c.biases.q = c.biases.k = c.biases.v = c.biases.o = true;
  for (std::int64_t i = 0; i < layers; ++i) c.windows.push_back(i % 2 == 0 ? 128 : 0);
  c.sparse.assign(static_cast<std::size_t>(layers), 1);
  c.moe.experts = experts;
  c.moe.active = 4;
  c.moe.intermediate = 2880;
  c.moe.biases = true;
  c.moe.activation = {true, 1.702, 7.0};
  c.moe.router = "router";
  c.eos_ids = {200002};
  c.pad_id = 199999;
  c.dtype = "bfloat16";
  return c;
}

}  // namespace detail

KDLIB_TOOLS_FUNC DecoderConfig qwen2_5_32b_config() { return detail::qwen2_5_config(64, 5120, 27648, 40, 8); }
KDLIB_TOOLS_FUNC DecoderConfig qwen2_5_7b_config() { return detail::qwen2_5_config(28, 3584, 18944, 28, 4); }
KDLIB_TOOLS_FUNC DecoderConfig gpt_oss_20b_config() { return detail::gpt_oss_config(24, 32); }
KDLIB_TOOLS_FUNC DecoderConfig gpt_oss_120b_config() { return detail::gpt_oss_config(36, 128); }

KDLIB_TOOLS_FUNC DecoderConfig vpmoe_config() {
  DecoderConfig c;
  c.family = Family::qwen2_moe;
  c.vocab_size = 201088;
  c.hidden_size = 1024;
  c.intermediate_size = 512;  // of dense layers: there are none
  c.layers = 80;
  c.query_heads = 8;
  c.kv_heads = 2;
  c.head_size = 128;
  c.norm_epsilon = 1e-5;
  c.rope.theta = 1e6;
  c.context_length = 32768;
  c.sparse.assign(80, 1);
  c.moe.experts = 256;
  c.moe.active = 4;
  c.moe.intermediate = 128;
  c.moe.shared = 512;
  c.eos_ids = {200002};
  c.pad_id = 199999;
  c.dtype = "bfloat16";
  return c;
}

KDLIB_TOOLS_FUNC DecoderConfig tiny_config(const DecoderConfig& config) {
  DecoderConfig c = config;
  const std::int64_t layers = 3, hidden = 64;
  const auto scaled = [&](std::int64_t width) {
    return std::max<std::int64_t>(32, width * hidden / config.hidden_size / 32 * 32);
  };
  c.vocab_size = 320;
  c.hidden_size = hidden;
  c.intermediate_size = scaled(config.intermediate_size);
  c.layers = layers;
  c.kv_heads = 2;
  c.query_heads = 2 * (config.query_heads / config.kv_heads);
  c.head_size = 16;
  c.context_length = 256;
  if (!c.windows.empty()) c.windows.resize(static_cast<std::size_t>(layers));
  for (std::int64_t& window : c.windows) window = std::min<std::int64_t>(window, 8);
  if (!c.sparse.empty()) c.sparse.resize(static_cast<std::size_t>(layers));
  if (c.mixtures() > 0) {
    c.moe.experts = std::min<std::int64_t>(config.moe.experts, 16);
    c.moe.intermediate = c.family == Family::gpt_oss ? c.intermediate_size : scaled(config.moe.intermediate);
    if (config.moe.shared > 0) c.moe.shared = scaled(config.moe.shared);
  }
  c.bos_ids.clear();
  c.eos_ids = {2};
  c.pad_id = -1;
  c.initializer_range = 0.2;
  c.dtype = "float32";
  return c;
}

KDLIB_NAMESPACE_END

#endif
