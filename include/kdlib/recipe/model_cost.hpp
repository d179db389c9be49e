// SPDX-License-Identifier: Apache-2.0
// What a model costs, from its configuration alone: parameters, operations a token, and what passes keep in memory.
// Nothing is allocated.
#ifndef KDLIB_RECIPE_MODEL_COST_HPP
#define KDLIB_RECIPE_MODEL_COST_HPP

#include <string>
#include <vector>

#include "kdlib/model/decoder_config.hpp"
#include "kdlib/nn/lora.hpp"

KDLIB_NAMESPACE_BEGIN

/// A linear map of a layer, as Decoder::linears() would list it.
struct LinearShape {
  std::string path;
  std::int64_t in = 0, out = 0;
};

/// Every map of every layer, in file order: attention, dense feed-forward, shared experts and their gates; no routers,
/// no experts.
std::vector<LinearShape> linear_shapes(const DecoderConfig& config);

/// Parameters that add_lora(settings) trains: rank (in + out) of each targeted map.
std::int64_t lora_parameter_count(const DecoderConfig& config, const LoraSettings& settings);

/// Counts in double: they are multiplied on.
struct ModelCost {
  double parameters = 0, active = 0;  // all; those that one token meets
  double linears = 0;                 // weights of linear_shapes
  double experts = 0;                 // weights of routed experts
  double others = 0;                  // embedding, head, norms, biases, routers
  double products = 0;         // weights a token is multiplied with in the layers: linears, routers, active experts
  double active_experts = 0;   // of these, the routed experts'
  double folded = 0;           // what Decoder::fold_cores() forms of a compressed mixture with wrappers
  double head = 0;             // V H
  double hidden = 0;           // H
  double kv_values = 0;        // a token's keys and values, all layers
  double active_fraction = 1;  // K / E

  /// Operations of one token's way through the layers, in a document of `length` tokens (attention sees half of them,
  /// or its window).
  double layer_flops(double length) const;
  /// Weights of experts that at least one of `tokens` tokens meets when routers spread them evenly.
  double touched_experts(double tokens) const;

  std::vector<double> attention_width;  // [layers] query_heads * head_size
  std::vector<double> window;           // [layers] 0: all
};

/// The cost of a decoder, counted from its configuration alone.
ModelCost model_cost(const DecoderConfig& config);

/// Values that a layer keeps of one token for the backward pass: residuals and norms, q, k, v and the heads' output,
/// gate and up (and what adapters read).
double layer_activations(const DecoderConfig& config, std::int64_t layer, bool adapters);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/model_cost_inl.hpp"
#endif

#endif
