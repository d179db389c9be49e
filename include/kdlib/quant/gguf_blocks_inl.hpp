// SPDX-License-Identifier: Apache-2.0
// Templates of quant/gguf_blocks.hpp; the formats are in gguf_formats_inl.hpp.
#ifndef KDLIB_QUANT_GGUF_BLOCKS_INL_HPP
#define KDLIB_QUANT_GGUF_BLOCKS_INL_HPP

#include <algorithm>
#include <type_traits>

#include "kdlib/core/error.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN

template <Scalar T>
void decode_tensor(const GgufTensor& tensor, std::span<T> out) {
  require<ShapeError>(out.size() == static_cast<std::size_t>(tensor.shape.count()), "[gguf] tensor ", tensor.text(),
                      ": room is for ", out.size(), " values");
  if constexpr (std::is_same_v<T, float>) {
    decode_row(tensor.type, tensor.data.data(), out.data(), out.size());
  } else {
    const std::size_t step = 1024;  // a whole number of blocks of every type
    float piece[step];
    const std::size_t bytes = step / std::max(block_size(tensor.type), std::size_t{1}) * block_bytes(tensor.type);
    const std::byte* at = tensor.data.data();
    for (std::size_t begin = 0; begin < out.size(); begin += step, at += bytes) {
      const std::size_t n = std::min(step, out.size() - begin);
      decode_row(tensor.type, at, piece, n);
      for (std::size_t i = 0; i < n; ++i) out[begin + i] = T(piece[i]);
    }
  }
}

KDLIB_NAMESPACE_END

#endif
