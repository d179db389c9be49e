// SPDX-License-Identifier: Apache-2.0
// Sequences that grow by one token a step. All data that change from step to step are on the device.
#ifndef KDLIB_MODEL_DECODE_STATE_HPP
#define KDLIB_MODEL_DECODE_STATE_HPP

#include <optional>
#include <vector>

#include "kdlib/tensor/upload_together.hpp"

KDLIB_NAMESPACE_BEGIN

/// The state of a group of sequences, made by Decoder::begin_decoding. Decoder::decode_step runs the tokens in `ids`
/// and moves each sequence on by one token; the sampler then writes the next tokens into `ids`. Between steps the host
/// gives nothing and waits for nothing. There are N rows: first the sequences, then rows of padding whose tokens do not
/// count.
template <class D>
struct DecodeState {
  using Arrays =
      UploadedTogether<D, std::int32_t, std::int32_t, std::int64_t, std::int32_t, std::int64_t>;  // copied at once

  Tensor<std::int32_t, D> ids;          // [N] tokens that the next step runs
  Tensor<std::int32_t, D> positions;    // [N] positions of these tokens
  Tensor<std::int64_t, D> offsets;      // [N + 1] 0, 1, 2, ...
  Tensor<std::int32_t, D> slots;        // [N] slots of the cache
  Tensor<std::int64_t, D> past;         // [N] number of tokens in each slot
  std::optional<Arrays> arrays;         // owns the five tensors above
  std::vector<std::int32_t> sequences;  // slots of the sequences, known to the host
  std::int64_t steps = 0;               // number of further steps for which there is room

  std::int64_t rows() const { return ids.count(); }

  /// The host's part of a step: counts one token more in the slots of the sequences. Throws ShapeError if no step is
  /// left.
  template <class Cache>
  void count_step(Cache& cache) {
    require<ShapeError>(steps > 0, "[Decoder::decode_step] the sequences have no room for another step");
    for (const std::int32_t slot : sequences) cache.grow(slot, 1);
    --steps;
  }
};

KDLIB_NAMESPACE_END

#endif
