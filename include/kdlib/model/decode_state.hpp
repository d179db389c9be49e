// SPDX-License-Identifier: Apache-2.0
// Sequences that go on by a token a step, with all that changes from step to step on the device.
#ifndef KDLIB_MODEL_DECODE_STATE_HPP
#define KDLIB_MODEL_DECODE_STATE_HPP

#include <vector>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Made by Decoder::begin_decoding. Decoder::decode_step runs `ids` and moves the sequences on by one token; what has
/// drawn the next tokens writes them to `ids`. The host gives nothing and waits for nothing between steps.
template <class D>
struct DecodeState {
  Tensor<std::int32_t, D> ids;          // [B] the tokens that the next step runs
  Tensor<std::int32_t, D> positions;    // [B] where they stand
  Tensor<std::int64_t, D> offsets;      // [B + 1] 0, 1, 2, ...
  Tensor<std::int32_t, D> slots;        // [B] of the cache
  Tensor<std::int64_t, D> past;         // [B] tokens that the slots hold
  std::vector<std::int32_t> sequences;  // the slots on the host
  std::int64_t steps = 0;               // that there is room for

  std::int64_t count() const { return static_cast<std::int64_t>(sequences.size()); }
};

KDLIB_NAMESPACE_END

#endif
