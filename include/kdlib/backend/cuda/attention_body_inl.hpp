// SPDX-License-Identifier: Apache-2.0
// Causal attention over documents, by tiles of 32 queries and 32 keys in shared memory with an online softmax (Dao et
// al., 2022). A block has 128 threads, four to a row of a tile; each holds a quarter of the row's columns in registers.
// Scores, softmax and sums are in C = accumulate_t<T>. The gradients recompute the probabilities; every sum has one
// owner and one order, so nothing is added atomically.
#ifndef KDLIB_BACKEND_CUDA_ATTENTION_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_ATTENTION_BODY_INL_HPP

#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/core/dtype.hpp"
#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t attention_tile = 32;
constexpr double attention_lowest = -3e38;  // below every score

/// Which rows of which document a tile holds.
struct DocumentTile {
  std::int64_t document = -1;  // -1: the grid has more blocks than there are tiles
  std::int64_t begin = 0;      // the document's first token
  std::int64_t length = 0;
  std::int64_t first = 0;  // the tile's first row inside the document
  std::int64_t rows = 0;

  KDLIB_HOST_DEVICE static DocumentTile of(const std::int64_t* offsets, std::int64_t documents, std::int64_t tile) {
    for (std::int64_t d = 0; d < documents; ++d) {
      const std::int64_t length = offsets[d + 1] - offsets[d], tiles = (length + attention_tile - 1) / attention_tile;
      if (tile < tiles) {
        const std::int64_t first = tile * attention_tile, rest = length - first;
        return {d, offsets[d], length, first, rest < attention_tile ? rest : attention_tile};
      }
      tile -= tiles;
    }
    return {};
  }
};

/// The document that a token belongs to.
KDLIB_HOST_DEVICE inline std::int64_t document_of(const std::int64_t* offsets, std::int64_t documents,
                                                  std::int64_t token) {
  std::int64_t low = 0, high = documents;  // offsets[low] <= token < offsets[high]
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    if (offsets[middle] <= token) low = middle;
    else high = middle;
  }
  return low;
}

/// The numbers that every attention kernel needs.
template <class T>
struct AttentionShape {
  using C = accumulate_t<T>;
  std::int64_t query_heads, kv_heads, d, window;
  C scale, softcap;  // softcap 0: none
  const std::int64_t* offsets;
  std::int64_t documents;

  KDLIB_HOST_DEVICE std::int64_t group() const { return query_heads / kv_heads; }
  KDLIB_HOST_DEVICE std::int64_t q_stride() const { return query_heads * d; }
  KDLIB_HOST_DEVICE std::int64_t kv_stride() const { return kv_heads * d; }
  KDLIB_HOST_DEVICE std::int64_t stride() const { return d + 1; }  // of a tile's row: rows lie in different banks
  KDLIB_HOST_DEVICE std::int64_t tile_bytes() const {
    return attention_tile * stride() * static_cast<std::int64_t>(sizeof(C));
  }
  static constexpr std::int64_t score_stride = attention_tile + 1;
  static constexpr std::int64_t score_bytes = attention_tile * score_stride * static_cast<std::int64_t>(sizeof(C));
  KDLIB_HOST_DEVICE std::int64_t first_key(std::int64_t position) const {
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
  KDLIB_HOST_DEVICE bool sees(std::int64_t position, std::int64_t key) const {
    return key <= position && (window == 0 || position - key < window);
  }
  /// The score of a query and a key as the softmax takes it.
  KDLIB_HOST_DEVICE C score(C product) const {
    const C x = product * scale;
    return softcap > 0 ? softcap * tanh(x / softcap) : x;
  }
  /// The derivative of score() by the product, from the score itself.
  KDLIB_HOST_DEVICE C score_slope(C score) const {
    if (!(softcap > 0)) return scale;
    const C t = score / softcap;
    return scale * (1 - t * t);
  }
  /// Copies `rows` rows of a head into a tile.
  template <class B, class Tile>
  KDLIB_HOST_DEVICE void fill(B& block, const Tile& tile, const T* from, std::int64_t row_stride,
                              std::int64_t rows) const {
    for (std::int64_t i = block.thread(); i < rows * d; i += block.size())
      tile[i / d * stride() + i % d] = static_cast<C>(from[i / d * row_stride + i % d]);
  }
};

template <class C>
KDLIB_HOST_DEVICE C row_dot(const C* a, const C* b, std::int64_t n) {
  C sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// sum over the four threads of a row; the largest likewise.
template <class B, class C>
KDLIB_HOST_DEVICE C sum_of_four(B& block, C x) {
  x += block.shuffle_xor(x, 1);
  return x + block.shuffle_xor(x, 2);
}
template <class B, class C>
KDLIB_HOST_DEVICE C largest_of_four(B& block, C x) {
  x = max(x, block.shuffle_xor(x, 1));
  return max(x, block.shuffle_xor(x, 2));
}

/// A block a tile of queries (block()) and a query head (block_y()). Keys are those of the batch, or with `slots` those
/// of a cache, of which past[document] lie before the batch's.
template <class T, int D>
struct AttentionForward {
  using C = accumulate_t<T>;
  static constexpr int threads = 128, own = D / 4;
  AttentionShape<T> shape;
  const T* q;
  const T* k;
  const T* v;
  T* out;
  C* log_sum;  // [tokens, query_heads] or nullptr
  std::int64_t capacity;
  const std::int32_t* slots;
  const std::int64_t* past;

  std::int64_t shared_bytes() const { return 3 * shape.tile_bytes() + AttentionShape<T>::score_bytes; }

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto tile = DocumentTile::of(shape.offsets, shape.documents, block.block());
    if (tile.document < 0) return;
    const std::int64_t head = block.block_y(), d = shape.d, stride = shape.stride(), elements = attention_tile * stride;
    const auto qs = block.template shared<C>(0, elements), ks = block.template shared<C>(shape.tile_bytes(), elements),
               vs = block.template shared<C>(2 * shape.tile_bytes(), elements),
               scores =
                   block.template shared<C>(3 * shape.tile_bytes(), attention_tile * AttentionShape<T>::score_stride);
    const std::int64_t row = block.thread() / 4, part = block.thread() % 4, at = row * AttentionShape<T>::score_stride;
    const std::int64_t before = slots == nullptr ? 0 : past[tile.document], position = before + tile.first + row;
    const std::int64_t base = slots == nullptr ? tile.begin : std::int64_t{slots[tile.document]} * capacity;
    const std::int64_t kv = base * shape.kv_stride() + head / shape.group() * d;
    const std::int64_t token = tile.begin + tile.first;
    shape.fill(block, qs, q + token * shape.q_stride() + head * d, shape.q_stride(), tile.rows);
    C sums[own], top = static_cast<C>(attention_lowest), total = 0;
    KDLIB_UNROLL
    for (int c = 0; c < own; ++c) sums[c] = 0;
    const std::int64_t end = before + tile.first + tile.rows;
    for (std::int64_t key = shape.first_key(before + tile.first); key < end; key += attention_tile) {
      const std::int64_t keys = end - key < attention_tile ? end - key : attention_tile;
      block.barrier();  // the tiles before were read
      shape.fill(block, ks, k + kv + key * shape.kv_stride(), shape.kv_stride(), keys);
      shape.fill(block, vs, v + kv + key * shape.kv_stride(), shape.kv_stride(), keys);
      block.barrier();
      const C shrink = probabilities(block, qs, ks, scores, row < tile.rows ? position : -1, key, keys, top, total);
      block.warp_barrier();  // a row's four threads are of one warp
      KDLIB_UNROLL
      for (int c = 0; c < own; ++c) sums[c] *= shrink;
      for (std::int64_t j = 0; row < tile.rows && j < keys; ++j) {
        const C p = scores.read(at + j);
        const C* const values = vs.read(j * stride, d);
        KDLIB_UNROLL
        for (int c = 0; c < own; ++c)
          if (part + 4 * c < d) sums[c] += p * values[part + 4 * c];
      }
    }
    if (row >= tile.rows) return;
    T* const to = out + (token + row) * shape.q_stride() + head * d;
    KDLIB_UNROLL
    for (int c = 0; c < own; ++c)
      if (part + 4 * c < d) to[part + 4 * c] = T(sums[c] / total);
    if (log_sum != nullptr && part == 0) log_sum[(token + row) * shape.query_heads + head] = top + log(total);
  }

 private:
  /// The thread's 8 probabilities of a row against a tile of keys, about the row's new largest score `top`; returns
  /// what earlier sums shrink by. `position` is -1 in rows that the tile lacks.
  template <class B, class Tile>
  KDLIB_HOST_DEVICE C probabilities(B& block, const Tile& qs, const Tile& ks, const Tile& scores, std::int64_t position,
                                    std::int64_t key, std::int64_t keys, C& top, C& total) const {
    const std::int64_t row = block.thread() / 4, part = block.thread() % 4, d = shape.d, stride = shape.stride();
    C mine[8], largest = top;
    KDLIB_UNROLL
    for (int i = 0; i < 8; ++i) {
      const std::int64_t j = part + 4 * i;
      mine[i] = static_cast<C>(attention_lowest);
      if (j >= keys || !shape.sees(position, key + j)) continue;
      mine[i] = shape.score(row_dot(qs.read(row * stride, d), ks.read(j * stride, d), d));
      largest = max(largest, mine[i]);
    }
    largest = largest_of_four(block, largest);
    const C shrink = exp(top - largest);
    top = largest;
    C sum = 0;
    KDLIB_UNROLL
    for (int i = 0; i < 8; ++i) {
      const std::int64_t j = part + 4 * i;
      const C p = j < keys && shape.sees(position, key + j) ? exp(mine[i] - top) : C(0);
      sum += p;
      scores[row * AttentionShape<T>::score_stride + j] = p;
    }
    total = total * shrink + sum_of_four(block, sum);
    return shrink;
  }
};

/// Copies the batch's keys and values behind what each document's slot holds; `width` = kv_heads * d.
template <class T>
struct AppendToCache {
  const std::int64_t* offsets;
  std::int64_t documents, width, capacity;
  const std::int32_t* slots;
  const std::int64_t* past;
  const T* k;
  const T* v;
  T* keys;
  T* values;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t token = i / width, document = document_of(offsets, documents, token);
    const std::int64_t row = std::int64_t{slots[document]} * capacity + past[document] + token - offsets[document];
    keys[row * width + i % width] = k[i];
    values[row * width + i % width] = v[i];
  }
};

constexpr std::int64_t decode_split = 256;  // keys of a block

/// One split of the keys that one token sees: block() = token * splits + split, block_y() = key/value head. Writes for
/// each query head of the group the largest score, the sum about it and the sum of values; a split without a key has
/// sum 0.
template <class T>
struct DecodeSplits {
  using C = accumulate_t<T>;
  static constexpr int threads = 128;
  AttentionShape<T> shape;
  const T* q;
  const T* keys;
  const T* values;
  std::int64_t splits, capacity;
  const std::int32_t* slots;
  const std::int64_t* past;
  C* tops;    // [tokens, query_heads, splits]
  C* totals;  // likewise
  C* sums;    // [tokens, query_heads, splits, d]

  std::int64_t shared_bytes() const {
    return shape.group() * (shape.d + decode_split) * static_cast<std::int64_t>(sizeof(C));
  }

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t token = block.block() / splits, split = block.block() % splits, kv_head = block.block_y();
    const std::int64_t document = document_of(shape.offsets, shape.documents, token), group = shape.group(),
                       d = shape.d;
    const std::int64_t position = past[document] + token - shape.offsets[document];
    const std::int64_t first_seen = shape.first_key(position), begin = split * decode_split;
    const std::int64_t low = first_seen > begin ? first_seen : begin,
                       count = (position + 1 < begin + decode_split ? position + 1 : begin + decode_split) - low;
    const std::int64_t thread = block.thread(), warp = thread / warp_threads, lane = thread % warp_threads,
                       warps = block.size() / warp_threads;
    const std::int64_t first = (token * shape.query_heads + kv_head * group) * splits + split;  // + head * splits
    if (count <= 0) {
      for (std::int64_t g = thread; g < group; g += block.size())
        tops[first + g * splits] = static_cast<C>(attention_lowest), totals[first + g * splits] = 0;
      return;
    }
    const auto qs = block.template shared<C>(0, group * d),
               ps = block.template shared<C>(group * d * static_cast<std::int64_t>(sizeof(C)), group * decode_split);
    const T* const from = q + token * shape.q_stride() + kv_head * group * d;
    for (std::int64_t i = thread; i < group * d; i += block.size()) qs[i] = static_cast<C>(from[i]);
    block.barrier();
    const std::int64_t kv = (std::int64_t{slots[document]} * capacity + low) * shape.kv_stride() + kv_head * d;
    for (std::int64_t j = warp; j < count; j += warps)
      for (std::int64_t g = 0; g < group; ++g) {
        C part = 0;
        for (std::int64_t c = lane; c < d; c += warp_threads)
          part += qs.read(g * d + c) * static_cast<C>(keys[kv + j * shape.kv_stride() + c]);
        part = sum_of_warp(block, part);
        if (lane == 0) ps[g * decode_split + j] = shape.score(part);
      }
    block.barrier();
    for (std::int64_t g = warp; g < group; g += warps) {
      C top = static_cast<C>(attention_lowest), total = 0;
      for (std::int64_t j = lane; j < count; j += warp_threads) top = max(top, ps.read(g * decode_split + j));
      top = reduce_warp(block, top, [](C& a, const C& b) { a = max(a, b); });
      for (std::int64_t j = lane; j < count; j += warp_threads) {
        const C p = exp(ps.read(g * decode_split + j) - top);
        ps[g * decode_split + j] = p;
        total += p;
      }
      total = sum_of_warp(block, total);
      if (lane == 0) tops[first + g * splits] = top, totals[first + g * splits] = total;
    }
    block.barrier();
    for (std::int64_t i = thread; i < group * d; i += block.size()) {
      const std::int64_t g = i / d, c = i % d;
      C sum = 0;
      for (std::int64_t j = 0; j < count; ++j)
        sum += ps.read(g * decode_split + j) * static_cast<C>(values[kv + j * shape.kv_stride() + c]);
      sums[(first + g * splits) * d + c] = sum;
    }
  }
};

/// A warp a token and query head: the splits, in order, become one softmax.
template <class T>
struct MergeSplits {
  using C = accumulate_t<T>;
  static constexpr int threads = 128;
  std::int64_t rows, d, splits;  // rows = tokens * query_heads
  const C* tops;
  const C* totals;
  const C* sums;
  T* out;
  C* log_sum;  // or nullptr

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t row = warp_row(block), lane = warp_lane(block);
    if (row >= rows) return;
    C top = static_cast<C>(attention_lowest), total = 0;
    for (std::int64_t s = 0; s < splits; ++s) top = max(top, tops[row * splits + s]);
    for (std::int64_t s = 0; s < splits; ++s) total += totals[row * splits + s] * exp(tops[row * splits + s] - top);
    for (std::int64_t c = lane; c < d; c += warp_threads) {
      C sum = 0;
      for (std::int64_t s = 0; s < splits; ++s)
        if (totals[row * splits + s] != 0)  // the sums of a split without a key are not written
          sum += sums[(row * splits + s) * d + c] * exp(tops[row * splits + s] - top);
      out[row * d + c] = T(sum / total);
    }
    if (log_sum != nullptr && lane == 0) log_sum[row] = top + log(total);
  }
};

/// A warp a token and head: the sink joins the denominator of a finished result.
template <class T>
struct AddSinks {
  using C = accumulate_t<T>;
  static constexpr int threads = 128;
  std::int64_t rows, heads, d;
  const T* sinks;
  T* out;
  C* log_sum;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t row = warp_row(block), lane = warp_lane(block);
    const bool here = row < rows;
    const C sink = here ? static_cast<C>(sinks[row % heads]) : C(0), sum = here ? log_sum[row] : C(0);
    const C top = max(sum, sink), with_sink = top + log(exp(sum - top) + exp(sink - top));
    block.warp_barrier();  // every lane has read the old sum
    if (!here) return;
    if (lane == 0) log_sum[row] = with_sink;
    const C share = exp(sum - with_sink);
    for (std::int64_t c = lane; c < d; c += warp_threads)
      out[row * d + c] = T(static_cast<C>(out[row * d + c]) * share);
  }
};

/// A block a head: sinks_gradient[head] += sum over tokens of -exp(sink - log_sum) (out_gradient . out), in double.
template <class T>
struct SinksGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  std::int64_t tokens, heads, d;
  const T* sinks;
  const T* out;
  const C* log_sum;
  const T* out_gradient;
  C* sinks_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t head = block.block();
    const C sink = static_cast<C>(sinks[head]);
    double total = 0;
    for (std::int64_t t = block.thread(); t < tokens; t += block.size()) {
      const std::int64_t row = t * heads + head;
      C product = 0;
      for (std::int64_t c = 0; c < d; ++c)
        product += static_cast<C>(out_gradient[row * d + c]) * static_cast<C>(out[row * d + c]);
      total -= static_cast<double>(exp(sink - log_sum[row]) * product);
    }
    total = sum_of_block(block, total);
    if (block.thread() == 0) sinks_gradient[head] += static_cast<C>(total);
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
