// SPDX-License-Identifier: Apache-2.0
// One row of a weight in its file's format, decoded on the host without a backend.
#ifndef KDLIB_BACKEND_STORED_ROW_INL_HPP
#define KDLIB_BACKEND_STORED_ROW_INL_HPP

#include "kdlib/backend/concepts.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A row by the plain loops of quant/gguf_blocks_inl.hpp.
inline void decode_stored_row(const StoredRanges& w, std::int64_t r, float* out) {
  const std::uint8_t* row = w.row(r);
  if (w.scale_parts == nullptr)
    return decode_row(w.type, reinterpret_cast<const std::byte*>(row), out, static_cast<std::size_t>(w.columns));
  constexpr float values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                0, -1, -2, -3, -4, -6, -8, -12};  // twice E2M1, as in decode_mxfp4
  const std::uint8_t* scales = w.row_scales(r);
  for (std::int64_t i = 0; i < w.columns; i += 2) {
    const std::uint8_t e = scales[i / 32], byte = row[i / 2];
    const float scale = bits_float(e < 2 ? 0x00200000u << e : (std::uint32_t{e} - 1u) << 23);
    out[i] = values[byte & 15] * scale;
    out[i + 1] = values[byte >> 4] * scale;
  }
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
