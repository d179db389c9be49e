// SPDX-License-Identifier: Apache-2.0
// Bodies of model_cost.hpp.
#ifndef KDLIB_RECIPE_MODEL_COST_INL_HPP
#define KDLIB_RECIPE_MODEL_COST_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/recipe/model_cost.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::vector<LinearShape> linear_shapes(const DecoderConfig& c) {
  std::vector<LinearShape> list;
  const std::int64_t h = c.hidden_size, q = c.query_heads * c.head_size, kv = c.kv_heads * c.head_size;
  const auto gated = [&](const std::string& path, std::int64_t inner) {
    list.push_back({path + ".gate_proj", h, inner});
    list.push_back({path + ".up_proj", h, inner});
    list.push_back({path + ".down_proj", inner, h});
  };
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = concat("model.layers.", i);
    list.push_back({layer + ".self_attn.q_proj", h, q});
    list.push_back({layer + ".self_attn.k_proj", h, kv});
    list.push_back({layer + ".self_attn.v_proj", h, kv});
    list.push_back({layer + ".self_attn.o_proj", q, h});
    if (!c.is_sparse(i)) {
      gated(layer + ".mlp", c.intermediate_size);
    } else if (c.moe.shared > 0) {
      gated(layer + ".mlp.shared_expert", c.moe.shared);
      list.push_back({layer + ".mlp.shared_expert_gate", h, 1});
    }
  }
  return list;
}

KDLIB_FUNC std::int64_t lora_parameter_count(const DecoderConfig& config, const LoraSettings& settings) {
  std::int64_t sum = 0;
  for (const LinearShape& l : linear_shapes(config))
    if (lora_targets(settings, l.path)) sum += lora_rank(settings, l.path) * (l.in + l.out);
  for (std::int64_t i = 0; settings.routers && i < config.layers; ++i)
    if (config.is_sparse(i))
      sum += lora_rank(settings, concat("model.layers.", i, ".mlp.", config.moe.router, ".weight")) *
             (config.hidden_size + config.moe.experts);
  return sum;
}

KDLIB_FUNC ModelCost model_cost(const DecoderConfig& c) {
  ModelCost m;
  const double h = static_cast<double>(c.hidden_size), mixtures = static_cast<double>(c.mixtures());
  m.parameters = static_cast<double>(c.parameter_count());
  m.active = static_cast<double>(c.active_parameter_count());
  for (const LinearShape& l : linear_shapes(c)) m.linears += static_cast<double>(l.in * l.out);
  const double expert = 3 * h * static_cast<double>(c.moe.intermediate),
               routers = mixtures * h * static_cast<double>(c.moe.experts);
  if (mixtures > 0) {
    const double count = static_cast<double>(c.moe.experts), active = static_cast<double>(c.moe.active),
                 factors = c.moe.shares_cores() ? static_cast<double>(c.moe.factor_values(c.hidden_size)) : 0;
    m.experts = mixtures * (c.moe.shares_cores() ? expert + count * factors : count * expert);
    const bool once = c.moe.shares_cores() && c.moe.core_form == CoreForm::residual;  // else a core meets each row
    m.active_experts = mixtures * (once ? expert + active * factors : active * (expert + factors));
    m.folded = once ? 0 : mixtures * count * factors / 2;
    m.active_fraction = static_cast<double>(c.moe.active) / static_cast<double>(c.moe.experts);
  }
  m.others = m.parameters - m.linears - m.experts;
  m.products = m.linears + m.active_experts + (mixtures > 0 ? routers : 0);
  m.head = static_cast<double>(c.vocab_size) * h;
  m.hidden = static_cast<double>(c.hidden_size);
  m.kv_values = static_cast<double>(2 * c.kv_heads * c.head_size * c.layers);
  m.attention_width.assign(static_cast<std::size_t>(c.layers), static_cast<double>(c.query_heads * c.head_size));
  for (std::int64_t i = 0; i < c.layers; ++i) m.window.push_back(static_cast<double>(c.window(i)));
  return m;
}

KDLIB_FUNC double ModelCost::layer_flops(double length) const {
  double flops = 2 * products;
  for (std::size_t i = 0; i < window.size(); ++i) {
    const double w = window[i] > 0 ? std::min(window[i], length) : length;
    const double keys = w - w * (w - 1) / (2 * std::max(length, 1.0));  // mean of min(position + 1, w)
    flops += 4 * attention_width[i] * keys;
  }
  return flops;
}

KDLIB_FUNC double ModelCost::touched_experts(double tokens) const {
  return experts * (1 - std::pow(1 - active_fraction, tokens));
}

KDLIB_FUNC double layer_activations(const DecoderConfig& c, std::int64_t layer, bool adapters) {
  const double h = static_cast<double>(c.hidden_size), q = static_cast<double>(c.query_heads * c.head_size),
               kv = static_cast<double>(c.kv_heads * c.head_size);
  const double attention = (c.is_gemma() ? 6 : 4) * h + 2 * q + 2 * kv;  // Gemma has two norms more
  if (!c.is_sparse(layer)) return attention + (adapters ? 3 : 2) * static_cast<double>(c.intermediate_size);
  const double active = static_cast<double>(c.moe.active), inner = static_cast<double>(c.moe.intermediate),
               rank = static_cast<double>(c.moe.core_rank);
  const double kept = !c.moe.shares_cores()                   ? 2 * inner
                      : c.moe.core_form == CoreForm::wrappers ? 5 * h + 6 * inner + 6 * rank
                                                              : 2 * h + 3 * inner + 3 * rank;
  const bool once =
      c.moe.shares_cores() && c.moe.core_form == CoreForm::residual;  // keeps a token's sum of inner values
  const double routed = active * (kept + 4) + static_cast<double>(c.moe.experts) + (once ? inner : 0);
  return attention + routed + (c.moe.shared > 0 ? h + (adapters ? 3 : 2) * static_cast<double>(c.moe.shared) : 0);
}

KDLIB_NAMESPACE_END

#endif
