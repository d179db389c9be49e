// SPDX-License-Identifier: Apache-2.0
// A mixture-of-experts student from a dense model. Not built yet: upcycle() refuses and says so.
#ifndef KDLIB_MODEL_UPCYCLE_HPP
#define KDLIB_MODEL_UPCYCLE_HPP

#include <cstdint>

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// How a dense model becomes a mixture of experts.
struct UpcycleSettings {
  std::int64_t experts = 8;      // copies of each feed-forward block
  std::int64_t active = 2;       // experts a token goes through, 1 <= active <= experts
  double balance_weight = 1e-2;  // of the auxiliary loss that spreads tokens over experts, >= 0
  double noise = 0;              // standard deviation added to the copies, in multiples of the weights' own
  std::uint64_t seed = 1;        // of the router's weights and of the noise
};

/// Gives every layer `experts` copies of its feed-forward block and a router (`*.mlp.gate.weight`); at the start each
/// token gets what the dense model gave. Source: Komatsuzaki et al., "Sparse upcycling" (arXiv 2212.05055). Throws
/// Error: not built yet.
template <class D, class T>
Decoder<D, T> upcycle(Decoder<D, T>&& dense, const UpcycleSettings& settings = {}) {
  static_cast<void>(dense);
  fail<Error>("[upcycle] turning a dense model into ", settings.experts,
              " experts is not built yet in this version. Train the dense student, or a student that is a mixture "
              "already (Qwen2-MoE, Qwen3-MoE, gpt-oss)");
}

KDLIB_NAMESPACE_END

#endif
