// SPDX-License-Identifier: Apache-2.0
// The cost of a model, from its configuration alone: parameters, operations for each token, and the values that passes
// keep in memory. Nothing is allocated.
#ifndef KDLIB_RECIPE_MODEL_COST_HPP
#define KDLIB_RECIPE_MODEL_COST_HPP

#include <string>
#include <vector>

#include "kdlib/model/decoder_config.hpp"
#include "kdlib/nn/lora.hpp"

KDLIB_NAMESPACE_BEGIN

/// A linear map of a layer, as Decoder::linears() lists it.
struct LinearShape {
  std::string path;
  std::int64_t in = 0, out = 0;
};

/// Returns every map of every layer in the order of the file: attention, dense feed-forward part, shared experts and
/// their gates; no routers and no experts.
std::vector<LinearShape> linear_shapes(const DecoderConfig& config);

/// Returns the number of parameters that add_lora(settings) trains: rank (in + out) of each targeted map.
std::int64_t lora_parameter_count(const DecoderConfig& config, const LoraSettings& settings);

/// Counts of a model. They are doubles because they are multiplied further.
struct ModelCost {
  double parameters = 0, active = 0;  // all; those that one token uses
  double linears = 0;                 // weights of linear_shapes
  double experts = 0;                 // weights of routed experts
  double others = 0;                  // embedding, head, norms, biases, routers
  double products = 0;                // weights that multiply a token in the layers: linears, routers, active experts
  double active_experts = 0;          // the routed experts among `products`
  double folded = 0;                  // values that Decoder::fold_cores() makes for a compressed mixture with wrappers
  double head = 0;                    // V H
  double hidden = 0;                  // H
  double kv_values = 0;               // keys and values of one token in all layers
  double active_fraction = 1;         // K / E

  /// Returns the operations of one token in the layers, for a document of `length` tokens. Attention sees half of these
  /// tokens on average, or its window.
  double layer_flops(double length) const;
  /// Returns the expert weights that at least one of `tokens` tokens uses if routers spread the tokens evenly.
  double touched_experts(double tokens) const;

  std::vector<double> attention_width;  // [layers] query_heads * head_size
  std::vector<double> window;           // [layers] tokens; 0: all
};

/// Returns the cost of a decoder, counted from its configuration alone.
ModelCost model_cost(const DecoderConfig& config);

/// Returns the number of values that a layer keeps of one token for the backward pass: residuals and norms, q, k, v and
/// the heads' output, gate and up, and if `adapters` is set what the adapters read.
double layer_activations(const DecoderConfig& config, std::int64_t layer, bool adapters);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/model_cost_inl.hpp"
#endif

#endif
