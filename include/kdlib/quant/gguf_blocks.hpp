// SPDX-License-Identifier: Apache-2.0
// Decodes the block formats of GGUF tensors to float. Products are formed as (d * scale) * code, so the results equal
// those of the ggml library bit for bit (block layouts: ggml-common.h of that project).
#ifndef KDLIB_QUANT_GGUF_BLOCKS_HPP
#define KDLIB_QUANT_GGUF_BLOCKS_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/core/dtype.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/gguf_types.hpp"

KDLIB_NAMESPACE_BEGIN

/// True for F32 F16 BF16 F64 I8 I16 I32 I64 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K MXFP4. False for Q2_K and Q3_K,
/// whose blocks io/gguf.hpp reads but this header does not decode.
bool can_decode(GgufType type);

/// Decodes n values from the blocks at `blocks`, which need not be aligned. Throws FormatError for a type that is not
/// decoded, ShapeError if n is not a whole number of blocks.
void decode_row(GgufType type, const std::byte* blocks, float* out, std::size_t n);

/// Decodes a whole tensor into `out`, row-major. `out` must have exactly shape.count() elements. A T other than float
/// is rounded to nearest even.
template <Scalar T>
void decode_tensor(const GgufTensor& tensor, std::span<T> out);
template <Scalar T>
std::vector<T> decode_tensor(const GgufTensor& tensor) {
  std::vector<T> out(static_cast<std::size_t>(tensor.shape.count()));
  decode_tensor<T>(tensor, std::span<T>(out));
  return out;
}

KDLIB_NAMESPACE_END

#include "kdlib/quant/gguf_blocks_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/quant/gguf_formats_inl.hpp"
#endif

#endif
