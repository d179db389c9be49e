// SPDX-License-Identifier: Apache-2.0
// Codes that are looked up in a table: NF4 and FP4 of bitsandbytes with double quantisation, and MXFP4 of the OCP. The
// functions give the same bits as those libraries. Sources: bitsandbytes/functional.py and csrc/cpu_ops.cpp,
// torchao/prototype/mx_formats/mx_tensor.py.
#ifndef KDLIB_QUANT_FOUR_BIT_FLOATS_HPP
#define KDLIB_QUANT_FOUR_BIT_FLOATS_HPP

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// The values of codes 0 to 15. FP4 is bitsandbytes' own format (n / 12), not the OCP's E2M1, which MXFP4 uses.
const std::array<float, 16>& nf4_levels();
const std::array<float, 16>& fp4_levels();
const std::array<float, 16>& e2m1_levels();

/// Encode one block of `count` weights as bitsandbytes does on a CPU and return its scale: each x / amax gets the code
/// of the nearest level, by the midpoints between neighbouring levels. `last` marks a short block at the end: its scale
/// is at least 1e-38, and its weights are divided by the scale and not multiplied by the inverse.
float encode_nf4_block(const float* w, std::int64_t count, bool last, std::uint8_t* codes);
float encode_fp4_block(const float* w, std::int64_t count, bool last, std::uint8_t* codes);

/// The 256 values of bitsandbytes' dynamic map, in rising order.
const std::array<float, 256>& dynamic_map();
/// Scales in 8 bits: scale = map[code] * block_scale + offset, with one block_scale for 256 scales.
struct NestedScales {
  std::vector<std::uint8_t> codes;
  std::vector<float> block_scale;
  float offset = 0;
};
/// Stores the scales in 8 bits.
NestedScales nest_scales(std::span<const float> scale);

/// How the exponent of an MXFP4 block follows from the largest magnitude in the block.
enum class MxScale : std::uint8_t { floor, rceil, ceil, even };
/// Encodes one block of up to 32 weights and returns the scale byte s, which means the factor 2^(s - 127). Elements are
/// rounded to nearest, ties to the even code; magnitudes above 6 become 6.
std::uint8_t encode_mxfp4_block(const float* w, std::int64_t count, MxScale rule, std::uint8_t* codes);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/quant/four_bit_floats_inl.hpp"
#endif

#endif
