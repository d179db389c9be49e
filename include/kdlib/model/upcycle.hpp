// SPDX-License-Identifier: Apache-2.0
// Makes a mixture-of-experts student from a dense model. At the start it computes the same function; training can then
// separate its experts.
#ifndef KDLIB_MODEL_UPCYCLE_HPP
#define KDLIB_MODEL_UPCYCLE_HPP

#include <cstdint>
#include <vector>

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// How a dense model becomes a mixture of experts.
struct UpcycleSettings {
  std::int64_t experts = 8;      // E, copies of each feed-forward block
  std::int64_t active = 2;       // K, experts a token goes through, 1 <= active <= experts
  double balance_weight = 1e-2;  // weight of the loss that spreads tokens over experts (RouterPolicy), >= 0
  /// Standard deviation of the noise that is added to each copy, in multiples of the root mean square of its matrix, >=
  /// 0. 0 keeps the function.
  double noise = 0;
  double router_deviation = 0.02;      // standard deviation of the routers' weights, >= 0
  std::vector<std::int64_t> layers{};  // layers that become mixtures; empty: all
  std::uint64_t seed = 1;              // seed of the routers and of the noise
};

/// Gives the layers `experts` copies of their feed-forward block and a router (`*.mlp.gate.weight`). The weights of a
/// token's K experts sum to 1, so without noise the mixture computes what the dense model computes, up to rounding. All
/// other weights are those of the dense model, in the same memory. Every parameter is trainable.
///
/// Qwen3 becomes Qwen3-MoE. Qwen2, Llama and Mistral become Qwen2-MoE, whose file format has a shared expert. The
/// shared expert is one more copy. Its gate starts at 0, which weights the shared expert by one half; therefore the
/// down maps of the routed experts are halved (exactly).
///
/// Throws ConfigError if the model is a mixture already or a Gemma, if it has biases for which those formats have no
/// place, if it has an adapter, if weights are codes or stay in their file, or if settings are out of range. Source:
/// Komatsuzaki et al., "Sparse upcycling" (arXiv 2212.05055).
template <class D, class T>
Decoder<D, T> upcycle(Decoder<D, T>&& dense, const UpcycleSettings& settings = {});

/// Returns the configuration of the mixture that upcycle() makes from a dense model. Throws ConfigError as upcycle()
/// does for configurations and settings.
DecoderConfig upcycled_config(const DecoderConfig& dense, const UpcycleSettings& settings);

KDLIB_NAMESPACE_END

#include "kdlib/model/upcycle_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/model/upcycled_config_inl.hpp"
#endif

#endif
