// SPDX-License-Identifier: Apache-2.0
// Functors of products grouped by expert, by tiles of 32 in shared memory, and of what stands between them. Rows are
// sorted by expert; which rows an expert has is on the device, so the grid has room for every case and blocks without
// rows leave.
#ifndef KDLIB_BACKEND_CUDA_EXPERTS_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_EXPERTS_BODY_INL_HPP

#include "kdlib/backend/cuda/attention_body_inl.hpp"
#include "kdlib/backend/cuda/each_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t expert_line = attention_tile + 1;  // of a tile's row: rows lie in different banks
template <class C>
constexpr std::int64_t expert_tile_bytes = attention_tile* expert_line* static_cast<std::int64_t>(sizeof(C));

/// y[r, c] = sum over k of x[r, k] W_e[c, k] (+ bias_e[c]), or with `Back` of x[r, k] W_e[k, c]. block(): tile of an
/// expert's rows, block_y(): tile of columns.
template <class T, bool Back>
struct ExpertProduct {
  using C = accumulate_t<T>;
  static constexpr int threads = 128;
  const std::int64_t* offsets;
  std::int64_t experts, columns, inner;
  const T* x;
  const T* weight;
  const T* bias;
  T* y;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto tile = DocumentTile::of(offsets, experts, block.block());
    if (tile.document < 0) return;
    constexpr std::int64_t elements = attention_tile * expert_line;
    const auto xs = block.template shared<C>(0, elements),
               ws = block.template shared<C>(expert_tile_bytes<C>, elements);
    const std::int64_t row = block.thread() / 4, part = block.thread() % 4, first = block.block_y() * attention_tile;
    const T* const from = x + (tile.begin + tile.first) * inner;
    const T* const w = weight + tile.document * columns * inner;
    C sums[8];
    KDLIB_UNROLL
    for (int i = 0; i < 8; ++i) sums[i] = 0;
    for (std::int64_t k = 0; k < inner; k += attention_tile) {
      block.barrier();  // the tiles before were read
      for (std::int64_t i = block.thread(); i < attention_tile * attention_tile; i += block.size()) {
        const std::int64_t a = i / attention_tile, b = i % attention_tile;
        xs[a * expert_line + b] = a < tile.rows && k + b < inner ? static_cast<C>(from[a * inner + k + b]) : C(0);
        // ws[c, k] in both directions; neighbouring threads read neighbouring numbers
        const std::int64_t c = first + (Back ? b : a), p = k + (Back ? a : b);
        ws[Back ? b * expert_line + a : a * expert_line + b] =
            c < columns && p < inner ? static_cast<C>(w[Back ? p * columns + c : c * inner + p]) : C(0);
      }
      block.barrier();
      const C* const left = xs.read(row * expert_line, attention_tile);
      KDLIB_UNROLL
      for (int i = 0; i < 8; ++i)
        sums[i] += row_dot(left, ws.read((part + 4 * i) * expert_line, attention_tile), attention_tile);
    }
    if (row >= tile.rows) return;
    KDLIB_UNROLL
    for (int i = 0; i < 8; ++i) {
      const std::int64_t c = first + part + 4 * i;
      if (c >= columns) continue;
      if (bias != nullptr) sums[i] += static_cast<C>(bias[tile.document * columns + c]);
      y[(tile.begin + tile.first + row) * columns + c] = T(sums[i]);
    }
  }
};

/// weight_gradient[e, o, i] += sum over the expert's rows of y_gradient[r, o] x[r, i]. block(): expert and tile of o,
/// block_y(): tile of i.
template <class T>
struct ExpertWeightGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 128;
  const std::int64_t* offsets;
  std::int64_t out, in;
  const T* y_gradient;
  const T* x;
  C* weight_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t tiles = (out + attention_tile - 1) / attention_tile, expert = block.block() / tiles;
    const std::int64_t begin = offsets[expert], end = offsets[expert + 1];
    if (begin == end) return;
    constexpr std::int64_t elements = attention_tile * expert_line;
    const auto gs = block.template shared<C>(0, elements),
               xs = block.template shared<C>(expert_tile_bytes<C>, elements);
    const std::int64_t first_o = block.block() % tiles * attention_tile, first_i = block.block_y() * attention_tile;
    const std::int64_t row = block.thread() / 4, part = block.thread() % 4;
    C sums[8];
    KDLIB_UNROLL
    for (int i = 0; i < 8; ++i) sums[i] = 0;
    for (std::int64_t r = begin; r < end; r += attention_tile) {
      block.barrier();  // the tiles before were read
      for (std::int64_t i = block.thread(); i < attention_tile * attention_tile; i += block.size()) {
        const std::int64_t a = i / attention_tile, b = i % attention_tile;  // transposed: [o or i, r]
        const bool here = r + a < end;
        gs[b * expert_line + a] =
            here && first_o + b < out ? static_cast<C>(y_gradient[(r + a) * out + first_o + b]) : C(0);
        xs[b * expert_line + a] = here && first_i + b < in ? static_cast<C>(x[(r + a) * in + first_i + b]) : C(0);
      }
      block.barrier();
      const C* const left = gs.read(row * expert_line, attention_tile);
      KDLIB_UNROLL
      for (int i = 0; i < 8; ++i)
        sums[i] += row_dot(left, xs.read((part + 4 * i) * expert_line, attention_tile), attention_tile);
    }
    if (first_o + row >= out) return;
    KDLIB_UNROLL
    for (int i = 0; i < 8; ++i)
      if (first_i + part + 4 * i < in)
        weight_gradient[(expert * out + first_o + row) * in + first_i + part + 4 * i] += sums[i];
  }
};

/// bias_gradient[e, c] += sum over the expert's rows of y_gradient[r, c], in order.
template <class T>
struct ExpertBiasGradient {
  using C = accumulate_t<T>;
  const std::int64_t* offsets;
  std::int64_t out;
  const T* y_gradient;
  C* bias_gradient;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t expert = i / out, begin = offsets[expert], end = offsets[expert + 1];
    if (begin == end) return;
    C sum = 0;
    for (std::int64_t r = begin; r < end; ++r) sum += static_cast<C>(y_gradient[r * out + i % out]);
    bias_gradient[i] += sum;
  }
};

/// Value and derivatives of one pair of gate and up, plain (limit 0) or gpt-oss's.
template <class C>
struct GatedPair {
  C value, by_gate, by_up;
  KDLIB_HOST_DEVICE static GatedPair of(C gate, C up, C alpha, C limit) {
    if (!(limit > 0)) {
      const C s = 1 / (1 + exp(-gate));
      return {gate * s * up, up * (s * (1 + gate * (1 - s))), gate * s};
    }
    const C g = gate < limit ? gate : limit, l = up < limit ? (up > -limit ? up : -limit) : limit;
    const C s = 1 / (1 + exp(-alpha * g));
    return {g * s * (l + 1), gate < limit ? s * (1 + alpha * g * (1 - s)) * (l + 1) : C(0),
            up < limit && up > -limit ? g * s : C(0)};
  }
};

/// y[r, i] from u [rows, 2 inner], or with y_gradient the gradients of both halves.
template <class T>
struct ExpertActivations {
  using C = accumulate_t<T>;
  std::int64_t inner;
  bool interleaved;
  C alpha, limit;
  const T* u;
  const T* y_gradient;  // nullptr: forward
  T* out;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t row = i / inner * 2 * inner, c = i % inner;
    // As on the CPU, pairs lie side by side only where there is a limit.
    const bool pairs = interleaved && limit > 0;
    const std::int64_t gate = row + (pairs ? 2 * c : c), up = pairs ? gate + 1 : gate + inner;
    const GatedPair<C> one = GatedPair<C>::of(static_cast<C>(u[gate]), static_cast<C>(u[up]), alpha, limit);
    if (y_gradient == nullptr) {
      out[i] = T(one.value);
      return;
    }
    const C d = static_cast<C>(y_gradient[i]);
    out[gate] = T(d * one.by_gate);
    out[up] = T(d * one.by_up);
  }
};

/// y[n, :] += sum over k, in order, of weights[n, k] rows[place[n, k], :].
template <class T>
struct CombineRowElements {
  using C = accumulate_t<T>;
  const T* rows;
  const std::int64_t* place;
  const T* weights;
  std::int64_t active, width;
  T* y;

  template <int W>
  KDLIB_HOST_DEVICE void at(std::int64_t i) const {
    const std::int64_t token = i / width, c = i % width;
    C sum[W];
    load_pack<W>(y + i, sum);
    for (std::int64_t k = token * active; k < (token + 1) * active; ++k) {
      C one[W];
      load_pack<W>(rows + place[k] * width + c, one);
      const C w = weights == nullptr ? C(1) : static_cast<C>(weights[k]);
      KDLIB_UNROLL
      for (int j = 0; j < W; ++j) sum[j] += w * one[j];
    }
    store_pack<W>(y + i, sum);
  }
};

/// A warp a row: dots[r] (+)= a[r, :] . b[r or its expert, :].
template <class T>
struct ExpertRowDots {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const std::int64_t* offsets;
  std::int64_t experts, rows, width;
  const T* a;
  const T* b;
  bool by_expert, accumulate;
  T* dots;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t r = warp_row(block), lane = warp_lane(block);
    if (r >= rows) return;
    const std::int64_t other = by_expert ? document_of(offsets, experts, r) : r;
    C sum = 0;
    for (std::int64_t c = lane; c < width; c += warp_threads)
      sum += static_cast<C>(a[r * width + c]) * static_cast<C>(b[other * width + c]);
    sum = sum_of_warp(block, sum);
    if (lane == 0) dots[r] = T(accumulate ? static_cast<C>(dots[r]) + sum : sum);
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
