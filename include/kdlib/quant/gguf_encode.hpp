// SPDX-License-Identifier: Apache-2.0
// Encoding floats into the block formats of GGUF tensors, byte for byte as the ggml library's reference quantisers do.
#ifndef KDLIB_QUANT_GGUF_ENCODE_HPP
#define KDLIB_QUANT_GGUF_ENCODE_HPP

#include <cstddef>
#include <string_view>

#include "kdlib/io/gguf_types.hpp"

KDLIB_NAMESPACE_BEGIN

/// True for F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 MXFP4. The K formats need a search for scales and are only decoded.
bool can_encode(GgufType type);

/// The type of a name in any case: "q8_0", "BF16". ConfigError naming those that can_encode() knows.
GgufType gguf_type_from_name(std::string_view name);

/// Encodes n values into `blocks` (n / block_size(type) * block_bytes(type) bytes). FormatError: a type that is not
/// encoded; a value that is not finite, or finite but beyond what F16 (of F16 itself and of the blocks' scales) can
/// hold. ShapeError: n is no whole number of blocks. Q8_0: d = amax / 127, q = round(x (1 / d)), halves away from zero,
/// d stored as F16. Q4_0, Q5_0: d = (value of largest magnitude) / -8, / -16; Q4_1, Q5_1: d = (max - min) / 15, / 31.
/// MXFP4: scale 2^(floor(log2 amax) - 2), nearest code, ties to the smaller.
void encode_row(GgufType type, const float* values, std::byte* blocks, std::size_t n);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/quant/gguf_encode_inl.hpp"
#endif

#endif
