// SPDX-License-Identifier: Apache-2.0
// Functors of weights that are kept as codes (CodedRanges in backend/concepts.hpp). Decoded values have the CPU's bits:
// each step is rounded to float.
#ifndef KDLIB_BACKEND_CUDA_CODED_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_CODED_BODY_INL_HPP

#include "kdlib/backend/concepts.hpp"
#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Reads single values of a coded weight.
struct CodeReader {
  CodedRanges w;
  std::int64_t row_bytes, row_groups;

  static CodeReader of(const CodedRanges& w) { return {w, w.row_bytes(), w.row_groups()}; }

  KDLIB_HOST_DEVICE int code(std::int64_t row, std::int64_t c) const {
    const std::uint8_t* const from = w.codes + row * row_bytes;
    if (w.bits == 8) return from[c];
    const std::int64_t bit = c % 8 * w.bits;
    const std::uint8_t* const p = from + c / 8 * w.bits + bit / 8;
    const unsigned word = bit % 8 + w.bits > 8 ? p[0] | static_cast<unsigned>(p[1]) << 8 : p[0];
    return static_cast<int>(word >> (bit % 8) & ((1u << w.bits) - 1));
  }
  /// The code as a signed integer.
  KDLIB_HOST_DEVICE int integer(int code) const {
    const int half = 1 << (w.bits - 1);
    return code < half ? code : code - 2 * half;
  }
  KDLIB_HOST_DEVICE float level(int code) const {
    return w.levels == nullptr ? static_cast<float>(integer(code)) : w.levels[code];
  }
  KDLIB_HOST_DEVICE std::int64_t group(std::int64_t row, std::int64_t c) const {
    return w.crossing ? (row * w.columns + c) / w.group : row * row_groups + c / w.group;
  }
  KDLIB_HOST_DEVICE float scale(std::int64_t i) const {
    if (w.scale != nullptr) return w.scale[i];
    if (w.nested_map != nullptr)
      return rounded_product(w.nested_map[w.small_scale[i]], w.nested_scale[i / 256]) + w.nested_offset;
    const unsigned s = w.small_scale[i];
    return bits_float(s == 0u ? 0x00400000u : s << 23);
  }
  KDLIB_HOST_DEVICE float value(std::int64_t row, std::int64_t c) const {
    const std::int64_t i = group(row, c);
    const float zero = w.zero != nullptr ? w.zero[i] : 0.0f, before = w.shifted ? zero : 0.0f;
    return rounded_product(level(code(row, c)) - before, scale(i)) + (w.shifted ? 0.0f : zero);
  }
};

/// out[i] of [count, columns] = a value of rows from `begin` on.
template <class T>
struct DecodeCodes {
  CodeReader reader;
  std::int64_t begin;
  T* out;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    out[i] = T(reader.value(begin + i / reader.w.columns, i % reader.w.columns));
  }
};

/// out[i] of [n, columns] = a value of the row that ids name.
template <class T>
struct GatherCodes {
  CodeReader reader;
  const std::int32_t* ids;
  T* out;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    out[i] = T(reader.value(ids[i / reader.w.columns], i % reader.w.columns));
  }
};

/// A warp a row of the weight: y[m, row] = x[m, :] . W[row, :] + beta y[m, row], 8 rows of x for each decoded value.
template <class T>
struct CodedProduct {
  using C = accumulate_t<T>;
  static constexpr int threads = 128, together = 8;
  CodeReader reader;
  std::int64_t m;
  const T* x;
  C beta;
  T* y;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t row = warp_row(block), lane = warp_lane(block), columns = reader.w.columns, rows = reader.w.rows;
    if (row >= rows) return;
    for (std::int64_t first = 0; first < m; first += together) {
      C sums[together];
      KDLIB_UNROLL
      for (int j = 0; j < together; ++j) sums[j] = 0;
      for (std::int64_t c = lane; c < columns; c += warp_threads) {
        const C value = static_cast<C>(reader.value(row, c));
        KDLIB_UNROLL
        for (int j = 0; j < together; ++j)
          if (first + j < m) sums[j] += value * static_cast<C>(x[(first + j) * columns + c]);
      }
      KDLIB_UNROLL
      for (int j = 0; j < together; ++j) {
        const C sum = sum_of_warp(block, sums[j]);
        if (first + j >= m || lane != 0) continue;
        T& to = y[(first + j) * rows + row];
        to = T(beta != 0 ? sum + beta * static_cast<C>(to) : sum);
      }
    }
  }
};

/// A warp a group of a row: gradients of its scale and zero.
template <class T>
struct CodedFactorGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 128;
  CodeReader reader;
  std::int64_t begin, count;
  const T* gradient;
  C* scale_gradient;  // or nullptr
  C* zero_gradient;   // or nullptr

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t unit = warp_row(block), lane = warp_lane(block), row = unit / reader.row_groups,
                       group = unit % reader.row_groups;
    if (row >= count) return;
    const std::int64_t at = (begin + row) * reader.row_groups + group, columns = reader.w.columns;
    const float shift = reader.w.shifted && reader.w.zero != nullptr ? reader.w.zero[at] : 0.0f;
    C scale = 0, zero = 0;
    for (std::int64_t c = group * reader.w.group + lane; c < (group + 1) * reader.w.group && c < columns;
         c += warp_threads) {
      const C g = static_cast<C>(gradient[row * columns + c]);
      scale += g * static_cast<C>(reader.level(reader.code(begin + row, c)) - shift);
      zero += g;
    }
    scale = sum_of_warp(block, scale);
    zero = sum_of_warp(block, zero);
    if (lane != 0) return;
    if (scale_gradient != nullptr) scale_gradient[at] += scale;
    if (zero_gradient != nullptr) zero_gradient[at] += zero;
  }
};

/// gradient = 0 at the lowest and the highest integer.
template <class T>
struct CodedClipGradient {
  CodeReader reader;
  std::int64_t begin;
  T* gradient;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    const int half = 1 << (reader.w.bits - 1),
              code = reader.integer(reader.code(begin + i / reader.w.columns, i % reader.w.columns));
    if (code == -half || code == half - 1) gradient[i] = T(0.0f);
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
