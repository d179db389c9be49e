// SPDX-License-Identifier: Apache-2.0
// Attention on queries, keys and values in bf16: a head of a document is widened once in scratch of the thread, the
// float code does the work, and what it gives is rounded once.
#ifndef KDLIB_BACKEND_CPU_WIDENED_ATTENTION_INL_HPP
#define KDLIB_BACKEND_CPU_WIDENED_ATTENTION_INL_HPP

#include <cmath>
#include <cstring>
#include <vector>

#include "kdlib/backend/cpu/attention_inl.hpp"
#include "kdlib/backend/cpu/widened_elementwise_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Room for `count` matrices of [rows, head size] floats in scratch of this thread, one behind the other.
inline float* head_scratch(std::int64_t count, std::int64_t rows, std::int64_t head_size) {
  return coded_scratch<6>(count * rows * head_size);
}

template <class T>
void WidenedAttention<T>::attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q,
                                    const T* k, const T* v, T* out, float* log_sum) {
  const std::int64_t d = heads.head_size, group = heads.query_heads / heads.kv_heads;
  const std::int64_t q_stride = heads.query_heads * d, kv_stride = heads.kv_heads * d;
  take_units(documents.documents * heads.query_heads, [&](std::int64_t unit) {
    thread_local std::vector<float> scores;
    const std::int64_t document = unit / heads.query_heads, head = unit % heads.query_heads;
    const std::int64_t begin = documents.offsets[document], length = documents.offsets[document + 1] - begin;
    const std::int64_t kv = begin * kv_stride + head / group * d, at = begin * q_stride + head * d, size = length * d;
    float* queries = head_scratch(4, length, d);
    float *keys = queries + size, *values = keys + size, *result = values + size;
    widen_rows(length, d, q + at, q_stride, queries, d);
    widen_rows(length, d, k + kv, kv_stride, keys, d);
    widen_rows(length, d, v + kv, kv_stride, values, d);
    attend<float>(heads, length, 0, queries, d, keys, values, d, result,
                  log_sum == nullptr ? nullptr : log_sum + begin * heads.query_heads + head, heads.query_heads, scores);
    narrow_rows(length, d, result, d, out + at, q_stride);
  });
}

template <class T>
void WidenedAttention<T>::attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q,
                                             const T* k, const T* v, const T* out, const float* log_sum,
                                             const T* out_gradient, T* q_gradient, T* k_gradient, T* v_gradient) {
  const std::int64_t d = heads.head_size, group = heads.query_heads / heads.kv_heads;
  const std::int64_t q_stride = heads.query_heads * d, kv_stride = heads.kv_heads * d;
  take_units(documents.documents * heads.kv_heads, [&](std::int64_t unit) {
    thread_local std::vector<float> scores;
    const std::int64_t document = unit / heads.kv_heads, kv_head = unit % heads.kv_heads;
    const std::int64_t begin = documents.offsets[document], length = documents.offsets[document + 1] - begin,
                       kv = begin * kv_stride + kv_head * d, size = length * d;
    float* keys = head_scratch(8, length, d);
    float *values = keys + size, *dk = values + size, *dv = dk + size, *queries = dv + size, *result = queries + size,
          *dout = result + size, *dq = dout + size;
    widen_rows(length, d, k + kv, kv_stride, keys, d);
    widen_rows(length, d, v + kv, kv_stride, values, d);
    std::fill(dk, dk + 2 * size, 0.0f);
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const std::int64_t at = begin * q_stride + head * d;
      widen_rows(length, d, q + at, q_stride, queries, d);
      widen_rows(length, d, out + at, q_stride, result, d);
      widen_rows(length, d, out_gradient + at, q_stride, dout, d);
      const float* sums = log_sum + begin * heads.query_heads + head;
      const AttentionBackward<float> one{heads, length, d, d, queries, keys, values, result, sums, dout, dq, dk, dv};
      for (std::int64_t b = 0; b < length; b += query_block) one.block(b, scores);
      narrow_rows(length, d, dq, d, q_gradient + at, q_stride);
    }
    narrow_rows(length, d, dk, d, k_gradient + kv, kv_stride);
    narrow_rows(length, d, dv, d, v_gradient + kv, kv_stride);
  });
}

template <class T>
void WidenedAttention<T>::attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                                           const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out,
                                           float* log_sum) {
  const std::int64_t d = heads.head_size, group = heads.query_heads / heads.kv_heads;
  const std::int64_t q_stride = heads.query_heads * d, kv_stride = heads.kv_heads * d;
  take_units(documents.documents * heads.kv_heads, [&](std::int64_t unit) {
    thread_local std::vector<float> scores;
    const std::int64_t document = unit / heads.kv_heads, kv_head = unit % heads.kv_heads;
    const std::int64_t begin = documents.offsets[document], count = documents.offsets[document + 1] - begin,
                       past = cache.past[document], low = first_key(past, heads.window), seen = past + count - low;
    const std::int64_t base = std::int64_t{cache.slots[document]} * cache.capacity * kv_stride + kv_head * d;
    for (std::int64_t t = 0; t < count; ++t) {
      const std::size_t bytes = static_cast<std::size_t>(d) * sizeof(T);
      std::memcpy(cache.keys + base + (past + t) * kv_stride, k + (begin + t) * kv_stride + kv_head * d, bytes);
      std::memcpy(cache.values + base + (past + t) * kv_stride, v + (begin + t) * kv_stride + kv_head * d, bytes);
    }
    // Keys from `low` on are widened; a float query of position p sees those of [p - window + 1, p].
    float* keys = coded_scratch<6>((2 * seen + 2 * count) * d);
    float *values = keys + seen * d, *queries = values + seen * d, *result = queries + count * d;
    widen_rows(seen, d, cache.keys + base + low * kv_stride, kv_stride, keys, d);
    widen_rows(seen, d, cache.values + base + low * kv_stride, kv_stride, values, d);
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const std::int64_t at = begin * q_stride + head * d;
      float* sums = log_sum == nullptr ? nullptr : log_sum + begin * heads.query_heads + head;
      widen_rows(count, d, q + at, q_stride, queries, d);
      if (count >= 8)
        attend<float>(heads, count, past - low, queries, d, keys, values, d, result, sums, heads.query_heads, scores);
      for (std::int64_t t = 0; count < 8 && t < count; ++t) {
        const std::int64_t first = first_key(past + t, heads.window), number = past + t + 1 - first;
        grow_scratch(scores, number);
        KDLIB_VECTOR_CALL(attend_one, queries + t * d, keys + (first - low) * d, values + (first - low) * d, number, d,
                          d, static_cast<float>(heads.scale), static_cast<float>(heads.softcap), scores.data(),
                          result + t * d, sums == nullptr ? nullptr : sums + t * heads.query_heads);
      }
      narrow_rows(count, d, result, d, out + at, q_stride);
    }
  });
}

template <class T>
void WidenedAttention<T>::advance(std::int64_t n, std::int32_t* positions, std::int64_t* past) {
  CpuAttention<float>::advance(n, positions, past);
}

template <class T>
void WidenedAttention<T>::attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size,
                                          const T* sinks, T* out, float* log_sum) {
  parallel_for(tokens, 1 + 4096 / (heads * head_size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * heads; i < end * heads; ++i) {
      const float sink = sinks[i % heads], sum = log_sum[i], top = sum > sink ? sum : sink;
      log_sum[i] = top + std::log(std::exp(sum - top) + std::exp(sink - top));
      scale_widened(head_size, std::exp(sum - log_sum[i]), out + i * head_size);
    }
  });
}

/// The sum of products of two rows, on this thread.
template <class T>
float dot_widened(const T* a, const T* b, std::int64_t n) {
  float total = 0;
  for (std::int64_t i = 0; i < n; i += widened_piece) {
    const std::int64_t count = std::min(widened_piece, n - i);
    const WidenedPiece x(a + i, count), y(b + i, count);
    float part;
    KDLIB_VECTOR_CALL(dot, x.data, y.data, count, &part);
    total += part;
  }
  return total;
}

template <class T>
void WidenedAttention<T>::attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size,
                                                   const T* sinks, const T* out, const float* log_sum,
                                                   const T* out_gradient, float* sinks_gradient) {
  parallel_for(heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t head = begin; head < end; ++head) {
      const float sink = sinks[head];
      double total = 0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::int64_t i = t * heads + head;
        const float delta = dot_widened(out_gradient + i * head_size, out + i * head_size, head_size);
        total -= static_cast<double>(std::exp(sink - log_sum[i]) * delta);
      }
      sinks_gradient[head] += static_cast<float>(total);
    }
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
