// SPDX-License-Identifier: Apache-2.0
// Encodes floats into the block formats of GGUF tensors, byte for byte as the reference quantisers of the ggml library
// do.
#ifndef KDLIB_QUANT_GGUF_ENCODE_HPP
#define KDLIB_QUANT_GGUF_ENCODE_HPP

#include <cstddef>
#include <string_view>

#include "kdlib/io/gguf_types.hpp"

KDLIB_NAMESPACE_BEGIN

/// True for F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 MXFP4. The K formats need a search for scales; they are only decoded.
bool can_encode(GgufType type);

/// Returns the type of a name in upper or lower case: "q8_0", "BF16". Throws ConfigError, which lists the names that
/// can_encode() knows.
GgufType gguf_type_from_name(std::string_view name);

/// Encodes n values into `blocks`, which takes n / block_size(type) * block_bytes(type) bytes. Q8_0: d = amax / 127, q
/// = round(x (1 / d)), halves away from zero, d stored as F16. Q4_0, Q5_0: d = (value of largest magnitude) / -8, /
/// -16. Q4_1, Q5_1: d = (max - min) / 15, / 31. MXFP4: the scale is 2^(floor(log2 amax) - 2); each value gets the
/// nearest code, ties the smaller code. Throws FormatError for a type that is not encoded and, except for F32, which is
/// copied unchecked, for a value that is not finite; also for a value or a block's scale that F16 or BF16 cannot hold.
/// Throws ShapeError if n is not a whole number of blocks.
void encode_row(GgufType type, const float* values, std::byte* blocks, std::size_t n);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/quant/gguf_encode_inl.hpp"
#endif

#endif
