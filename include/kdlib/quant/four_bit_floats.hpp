// SPDX-License-Identifier: Apache-2.0
// Codes that are looked up in a table: NF4 and FP4 of bitsandbytes with double quantisation, and MXFP4 of the OCP. They
// give the bits that those libraries give; sources: bitsandbytes/functional.py and csrc/cpu_ops.cpp,
// torchao/prototype/mx_formats/mx_tensor.py.
#ifndef KDLIB_QUANT_FOUR_BIT_FLOATS_HPP
#define KDLIB_QUANT_FOUR_BIT_FLOATS_HPP

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Values of codes 0..15. FP4 is bitsandbytes' own (n / 12), not the OCP's E2M1, which MXFP4 uses.
const std::array<float, 16>& nf4_levels();
const std::array<float, 16>& fp4_levels();
const std::array<float, 16>& e2m1_levels();

/// One block as bitsandbytes encodes it on a CPU: codes by the midpoints of neighbouring levels of x / amax; gives the
/// scale. `last`: the short block at the end, whose scale is at least 1e-38 and divides.
float encode_nf4_block(const float* w, std::int64_t count, bool last, std::uint8_t* codes);
float encode_fp4_block(const float* w, std::int64_t count, bool last, std::uint8_t* codes);

/// The 256 values of bitsandbytes' dynamic map in order.
const std::array<float, 256>& dynamic_map();
/// Scales in 8 bits: scale = map[code] * block_scale + offset, one block_scale for 256.
struct NestedScales {
  std::vector<std::uint8_t> codes;
  std::vector<float> block_scale;
  float offset = 0;
};
NestedScales nest_scales(std::span<const float> scale);

/// How the exponent of an MXFP4 block follows from its largest magnitude.
enum class MxScale : std::uint8_t { floor, rceil, ceil, even };
/// One block of 32; gives the scale byte s, factor 2^(s - 127). Elements to nearest, ties to the even code, saturating
/// at 6.
std::uint8_t encode_mxfp4_block(const float* w, std::int64_t count, MxScale rule, std::uint8_t* codes);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/quant/four_bit_floats_inl.hpp"
#endif

#endif
