// SPDX-License-Identifier: Apache-2.0
// A mixture-of-experts student from a dense model: the same function at the start, room to learn behind a router.
#ifndef KDLIB_MODEL_UPCYCLE_HPP
#define KDLIB_MODEL_UPCYCLE_HPP

#include <cstdint>
#include <vector>

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// How a dense model becomes a mixture of experts.
struct UpcycleSettings {
  std::int64_t experts = 8;        // E, copies of each feed-forward block
  std::int64_t active = 2;         // K, experts a token goes through, 1 <= active <= experts
  double balance_weight = 1e-2;    // of the auxiliary loss that spreads tokens over experts (RouterPolicy), >= 0
  double noise = 0;                // standard deviation of what is added to each copy, in multiples of the root mean
                                   // square of its matrix, >= 0; 0 keeps the function
  double router_deviation = 0.02;  // standard deviation of the routers' weights, >= 0
  std::vector<std::int64_t> layers{};  // that become mixtures; empty: all
  std::uint64_t seed = 1;              // of the routers and of the noise
};

/// Gives layers `experts` copies of their feed-forward block and a router (`*.mlp.gate.weight`). The weights of a
/// token's K experts sum to 1, so with noise 0 the mixture computes what the dense model does, to rounding. Everything
/// else is the dense model's, in the same memory. Every parameter is trainable.
///
/// Qwen3 becomes Qwen3-MoE; Qwen2, Llama and Mistral become Qwen2-MoE, whose file format has a shared expert: it is one
/// copy more, its gate starts at 0 and so counts it by half, and the routed experts' down maps are halved (exactly).
///
/// ConfigError: the model is a mixture already or a Gemma, has biases for which those formats have no place, an
/// adapter, or weights that are codes or stay in their file; settings outside their ranges. Source: Komatsuzaki et al.,
/// "Sparse upcycling" (arXiv 2212.05055).
template <class D, class T>
Decoder<D, T> upcycle(Decoder<D, T>&& dense, const UpcycleSettings& settings = {});

/// The configuration of the mixture that upcycle() makes of a dense model. ConfigError as above.
DecoderConfig upcycled_config(const DecoderConfig& dense, const UpcycleSettings& settings);

KDLIB_NAMESPACE_END

#include "kdlib/model/upcycle_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/model/upcycled_config_inl.hpp"
#endif

#endif
