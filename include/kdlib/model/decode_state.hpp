// SPDX-License-Identifier: Apache-2.0
// Sequences that go on by a token a step, with all that changes from step to step on the device.
#ifndef KDLIB_MODEL_DECODE_STATE_HPP
#define KDLIB_MODEL_DECODE_STATE_HPP

#include <optional>
#include <vector>

#include "kdlib/tensor/upload_together.hpp"

KDLIB_NAMESPACE_BEGIN

/// Made by Decoder::begin_decoding. Decoder::decode_step runs `ids` and moves the sequences on by one token; what has
/// drawn the next tokens writes them to `ids`. The host gives nothing and waits for nothing between steps. N rows: the
/// sequences, and behind them rows of padding whose tokens do not count.
template <class D>
struct DecodeState {
  using Arrays =
      UploadedTogether<D, std::int32_t, std::int32_t, std::int64_t, std::int32_t, std::int64_t>;  // of one copy

  Tensor<std::int32_t, D> ids;          // [N] the tokens that the next step runs
  Tensor<std::int32_t, D> positions;    // [N] where they stand
  Tensor<std::int64_t, D> offsets;      // [N + 1] 0, 1, 2, ...
  Tensor<std::int32_t, D> slots;        // [N] of the cache
  Tensor<std::int64_t, D> past;         // [N] tokens that the slots hold
  std::optional<Arrays> arrays;         // the five above
  std::vector<std::int32_t> sequences;  // the sequences' slots on the host
  std::int64_t steps = 0;               // that there is room for

  std::int64_t rows() const { return ids.count(); }

  /// The host's part of a step: the sequences' slots of `cache` hold a token more.
  template <class Cache>
  void count_step(Cache& cache) {
    require<ShapeError>(steps > 0, "[Decoder::decode_step] the sequences have no room for another step");
    for (const std::int32_t slot : sequences) cache.grow(slot, 1);
    --steps;
  }
};

KDLIB_NAMESPACE_END

#endif
