// SPDX-License-Identifier: Apache-2.0
// Gradients of attention, by the tiles of attention_body_inl.hpp: one kernel owns keys and values, one owns queries,
// and both recompute the probabilities from log_sum.
#ifndef KDLIB_BACKEND_CUDA_ATTENTION_BACKWARD_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_ATTENTION_BACKWARD_BODY_INL_HPP

#include "kdlib/backend/cuda/attention_body_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A warp a token and head: delta = out_gradient . out.
template <class T>
struct AttentionDelta {
  using C = accumulate_t<T>;
  static constexpr int threads = 128;
  std::int64_t rows, d;
  const T* out;
  const T* out_gradient;
  C* delta;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t row = warp_row(block), lane = warp_lane(block);
    C sum = 0;
    for (std::int64_t c = lane; row < rows && c < d; c += warp_threads)
      sum += static_cast<C>(out_gradient[row * d + c]) * static_cast<C>(out[row * d + c]);
    sum = sum_of_warp(block, sum);
    if (row < rows && lane == 0) delta[row] = sum;
  }
};

/// What both kernels read.
template <class T>
struct AttentionGradientInputs {
  using C = accumulate_t<T>;
  AttentionShape<T> shape;
  const T* q;
  const T* k;
  const T* v;
  const T* out_gradient;
  const C* log_sum;
  const C* delta;

  KDLIB_HOST_DEVICE std::int64_t shared_bytes() const {
    return 4 * shape.tile_bytes() + 2 * AttentionShape<T>::score_bytes;
  }
  /// Probability p of one pair and the gradient ds of its product query . key.
  KDLIB_HOST_DEVICE void pair(const C* query, const C* key, const C* value, const C* gradient, std::int64_t row, C& p,
                              C& ds) const {
    const C score = shape.score(row_dot(query, key, shape.d));
    p = exp(score - log_sum[row]);
    ds = p * (row_dot(gradient, value, shape.d) - delta[row]) * shape.score_slope(score);
  }
};

/// A block a tile of keys (block()) and a key/value head (block_y()): adds up over the group's query heads and the
/// tiles of queries that see the keys.
template <class T, int D>
struct KeyValueGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 128, own = D / 4;
  AttentionGradientInputs<T> in;
  T* k_gradient;
  T* v_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const AttentionShape<T>& shape = in.shape;
    const auto tile = DocumentTile::of(shape.offsets, shape.documents, block.block());
    if (tile.document < 0) return;
    constexpr std::int64_t line = AttentionShape<T>::score_stride;
    const std::int64_t kv_head = block.block_y(), d = shape.d, stride = shape.stride(), bytes = shape.tile_bytes(),
                       elements = attention_tile * stride;
    const auto ks = block.template shared<C>(0, elements), vs = block.template shared<C>(bytes, elements),
               qs = block.template shared<C>(2 * bytes, elements), gs = block.template shared<C>(3 * bytes, elements),
               ps = block.template shared<C>(4 * bytes, attention_tile * line),
               ds = block.template shared<C>(4 * bytes + AttentionShape<T>::score_bytes, attention_tile * line);
    const std::int64_t row = block.thread() / 4, part = block.thread() % 4;
    const std::int64_t kv = (tile.begin + tile.first) * shape.kv_stride() + kv_head * d;
    shape.fill(block, ks, in.k + kv, shape.kv_stride(), tile.rows);
    shape.fill(block, vs, in.v + kv, shape.kv_stride(), tile.rows);
    C dk[own], dv[own];
    KDLIB_UNROLL
    for (int c = 0; c < own; ++c) dk[c] = dv[c] = 0;
    std::int64_t end = tile.length;  // of the queries that see one of the keys
    if (shape.window > 0 && tile.first + tile.rows - 1 + shape.window < end)
      end = tile.first + tile.rows - 1 + shape.window;
    for (std::int64_t head = kv_head * shape.group(); head < (kv_head + 1) * shape.group(); ++head)
      for (std::int64_t query = tile.first; query < end; query += attention_tile) {
        const std::int64_t queries = end - query < attention_tile ? end - query : attention_tile,
                           token = tile.begin + query, from = token * shape.q_stride() + head * d;
        block.barrier();  // the tiles before were read
        shape.fill(block, qs, in.q + from, shape.q_stride(), queries);
        shape.fill(block, gs, in.out_gradient + from, shape.q_stride(), queries);
        block.barrier();
        for (std::int64_t j = part; j < attention_tile; j += 4) {  // the thread's row is a query here
          C p = 0, s = 0;
          if (row < queries && j < tile.rows && shape.sees(query + row, tile.first + j))
            in.pair(qs.read(row * stride, d), ks.read(j * stride, d), vs.read(j * stride, d), gs.read(row * stride, d),
                    (token + row) * shape.query_heads + head, p, s);
          ps[row * line + j] = p, ds[row * line + j] = s;
        }
        block.barrier();
        for (std::int64_t i = 0; row < tile.rows && i < queries; ++i) {  // and a key here
          const C p = ps.read(i * line + row), s = ds.read(i * line + row);
          const C *const g = gs.read(i * stride, d), *const x = qs.read(i * stride, d);
          KDLIB_UNROLL
          for (int c = 0; c < own; ++c)
            if (part + 4 * c < d) dv[c] += p * g[part + 4 * c], dk[c] += s * x[part + 4 * c];
        }
      }
    if (row >= tile.rows) return;
    KDLIB_UNROLL
    for (int c = 0; c < own; ++c)
      if (part + 4 * c < d) {
        k_gradient[kv + row * shape.kv_stride() + part + 4 * c] = T(dk[c]);
        v_gradient[kv + row * shape.kv_stride() + part + 4 * c] = T(dv[c]);
      }
  }
};

/// A block a tile of queries (block()) and a query head (block_y()).
template <class T, int D>
struct QueryGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 128, own = D / 4;
  AttentionGradientInputs<T> in;
  T* q_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const AttentionShape<T>& shape = in.shape;
    const auto tile = DocumentTile::of(shape.offsets, shape.documents, block.block());
    if (tile.document < 0) return;
    constexpr std::int64_t line = AttentionShape<T>::score_stride;
    const std::int64_t head = block.block_y(), d = shape.d, stride = shape.stride(), bytes = shape.tile_bytes(),
                       elements = attention_tile * stride;
    const auto ks = block.template shared<C>(0, elements), vs = block.template shared<C>(bytes, elements),
               qs = block.template shared<C>(2 * bytes, elements), gs = block.template shared<C>(3 * bytes, elements),
               ds = block.template shared<C>(4 * bytes, attention_tile * line);
    const std::int64_t row = block.thread() / 4, part = block.thread() % 4;
    const std::int64_t token = tile.begin + tile.first, at = token * shape.q_stride() + head * d;
    const std::int64_t kv = tile.begin * shape.kv_stride() + head / shape.group() * d;
    shape.fill(block, qs, in.q + at, shape.q_stride(), tile.rows);
    shape.fill(block, gs, in.out_gradient + at, shape.q_stride(), tile.rows);
    C dq[own];
    KDLIB_UNROLL
    for (int c = 0; c < own; ++c) dq[c] = 0;
    const std::int64_t end = tile.first + tile.rows;
    for (std::int64_t key = shape.first_key(tile.first); key < end; key += attention_tile) {
      const std::int64_t keys = end - key < attention_tile ? end - key : attention_tile;
      block.barrier();  // the tiles before were read
      shape.fill(block, ks, in.k + kv + key * shape.kv_stride(), shape.kv_stride(), keys);
      shape.fill(block, vs, in.v + kv + key * shape.kv_stride(), shape.kv_stride(), keys);
      block.barrier();
      for (std::int64_t j = part; j < attention_tile; j += 4) {
        C p = 0, s = 0;
        if (row < tile.rows && j < keys && shape.sees(tile.first + row, key + j))
          in.pair(qs.read(row * stride, d), ks.read(j * stride, d), vs.read(j * stride, d), gs.read(row * stride, d),
                  (token + row) * shape.query_heads + head, p, s);
        ds[row * line + j] = s;
      }
      block.warp_barrier();  // a row's four threads are of one warp
      for (std::int64_t j = 0; row < tile.rows && j < keys; ++j) {
        const C s = ds.read(row * line + j);
        const C* const x = ks.read(j * stride, d);
        KDLIB_UNROLL
        for (int c = 0; c < own; ++c)
          if (part + 4 * c < d) dq[c] += s * x[part + 4 * c];
      }
    }
    if (row >= tile.rows) return;
    KDLIB_UNROLL
    for (int c = 0; c < own; ++c)
      if (part + 4 * c < d) q_gradient[at + row * shape.q_stride() + part + 4 * c] = T(dq[c]);
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
