// SPDX-License-Identifier: Apache-2.0
// Causal attention over documents, by blocks of queries: scores of one block against all keys it sees, softmax, product
// with the values. Work is shared out by (document, head); a unit writes its own outputs only, so the order in which
// threads take units does not matter.
#ifndef KDLIB_BACKEND_CPU_ATTENTION_INL_HPP
#define KDLIB_BACKEND_CPU_ATTENTION_INL_HPP

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "kdlib/backend/cpu/gemm_inl.hpp"
#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/core/parallel.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t query_block = 64;  // 64 x 8192 float scores are 2 MiB a thread

/// Calls body(unit) for units [0, count); threads take the next one when they are free.
template <class F>
void take_units(std::int64_t count, F&& body) {
  std::atomic<std::int64_t> next{0};
  parallel_parts(count > (1 << 20) ? 1 << 20 : static_cast<int>(count), [&](int, int) {
    for (std::int64_t unit = next.fetch_add(1); unit < count; unit = next.fetch_add(1)) body(unit);
  });
}

/// At least n elements; never shrinks, because growing again would fill with zeros.
template <class T>
void grow_scratch(std::vector<T>& scratch, std::int64_t n) {
  if (static_cast<std::int64_t>(scratch.size()) < n) scratch.resize(static_cast<std::size_t>(n));
}

/// Keys that query `position` sees: [first, position].
inline std::int64_t first_key(std::int64_t position, std::int64_t window) {
  return window > 0 && position >= window ? position - window + 1 : 0;
}

/// `queries` rows of one head, the first at `past`, against keys [0, past + queries). Strides in elements. log_sum may
/// be nullptr.
template <class T>
void attend(const AttentionHeads& heads, std::int64_t queries, std::int64_t past, const T* q, std::int64_t q_stride,
            const T* k, const T* v, std::int64_t kv_stride, T* out, T* log_sum, std::int64_t log_sum_stride,
            std::vector<T>& scratch) {
  const std::int64_t d = heads.head_size;
  const T scale = static_cast<T>(heads.scale), cap = static_cast<T>(heads.softcap), factor = cap > 0 ? T{1} : scale;
  for (std::int64_t begin = 0; begin < queries; begin += query_block) {
    const std::int64_t rows = queries - begin < query_block ? queries - begin : query_block;
    const std::int64_t first = first_key(past + begin, heads.window), keys = past + begin + rows - first;
    grow_scratch(scratch, query_block * keys);
    T* s = scratch.data();
    CpuGemm<T>::gemm_serial(false, true, rows, keys, d, T{1}, q + begin * q_stride, q_stride, k + first * kv_stride,
                            kv_stride, T{0}, s, keys);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t position = past + begin + r, low = first_key(position, heads.window) - first,
                         high = position + 1 - first;
      T* row = s + r * keys;
      T sum;
      if (cap > 0) KDLIB_VECTOR_CALL(softcap, row + low, high - low, scale / cap, cap, row + low);
      KDLIB_VECTOR_CALL(softmax_row, row + low, high - low, factor, &sum);
      std::fill(row, row + low, T{0});
      std::fill(row + high, row + keys, T{0});
      if (log_sum != nullptr) log_sum[(begin + r) * log_sum_stride] = sum;
    }
    CpuGemm<T>::gemm_serial(false, false, rows, d, keys, T{1}, s, keys, v + first * kv_stride, kv_stride, T{0},
                            out + begin * q_stride, q_stride);
  }
}

template <class T>
void CpuAttention<T>::attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                                const T* v, T* out, T* log_sum) {
  const std::int64_t d = heads.head_size, group = heads.query_heads / heads.kv_heads;
  const std::int64_t q_stride = heads.query_heads * d, kv_stride = heads.kv_heads * d;
  take_units(documents.documents * heads.query_heads, [&](std::int64_t unit) {
    thread_local std::vector<T> scratch;
    const std::int64_t document = unit / heads.query_heads, head = unit % heads.query_heads;
    const std::int64_t begin = documents.offsets[document], length = documents.offsets[document + 1] - begin;
    const std::int64_t kv = begin * kv_stride + head / group * d, at = begin * q_stride + head * d;
    attend(heads, length, std::int64_t{0}, q + at, q_stride, k + kv, v + kv, kv_stride, out + at,
           log_sum == nullptr ? nullptr : log_sum + begin * heads.query_heads + head, heads.query_heads, scratch);
  });
}

/// Gradients of one query head of one document, queries by blocks; dk and dv of its key head are added to.
template <class T>
struct AttentionBackward {
  const AttentionHeads& heads;
  std::int64_t length, q_stride, kv_stride;
  const T *q, *k, *v, *out, *log_sum, *dout;
  T *dq, *dk, *dv;

  void block(std::int64_t begin, std::vector<T>& scratch) const {
    const std::int64_t d = heads.head_size, rows = length - begin < query_block ? length - begin : query_block;
    const std::int64_t first = first_key(begin, heads.window), keys = begin + rows - first;
    const T scale = static_cast<T>(heads.scale), cap = static_cast<T>(heads.softcap), factor = cap > 0 ? T{1} : scale;
    grow_scratch(scratch, 2 * query_block * keys + (cap > 0 ? keys : 0));
    T *p = scratch.data(), *dp = p + query_block * keys, *capped = dp + query_block * keys;
    const T *qb = q + begin * q_stride, *db = dout + begin * q_stride, *kb = k + first * kv_stride,
            *vb = v + first * kv_stride;
    CpuGemm<T>::gemm_serial(false, true, rows, keys, d, T{1}, qb, q_stride, kb, kv_stride, T{0}, p, keys);
    CpuGemm<T>::gemm_serial(false, true, rows, keys, d, T{1}, db, q_stride, vb, kv_stride, T{0}, dp, keys);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t position = begin + r, low = first_key(position, heads.window) - first,
                         high = position + 1 - first;
      T *prow = p + r * keys, *drow = dp + r * keys, delta;
      KDLIB_VECTOR_CALL(dot, db + r * q_stride, out + position * q_stride, d, &delta);
      if (cap > 0) {
        KDLIB_VECTOR_CALL(softcap, prow + low, high - low, scale / cap, cap, prow + low);
        std::copy(prow + low, prow + high, capped);
      }
      KDLIB_VECTOR_CALL(softmax_again, prow + low, high - low, factor, log_sum[position * heads.query_heads]);
      KDLIB_VECTOR_CALL(softmax_backward, prow + low, high - low, delta, factor, drow + low);
      if (cap > 0) KDLIB_VECTOR_CALL(softcap_backward, capped, high - low, T{1} / cap, scale, drow + low);
      for (T* row : {prow, drow}) {
        std::fill(row, row + low, T{0});
        std::fill(row + high, row + keys, T{0});
      }
    }
    CpuGemm<T>::gemm_serial(true, false, keys, d, rows, T{1}, p, keys, db, q_stride, T{1}, dv + first * kv_stride,
                            kv_stride);
    CpuGemm<T>::gemm_serial(true, false, keys, d, rows, T{1}, dp, keys, qb, q_stride, T{1}, dk + first * kv_stride,
                            kv_stride);
    CpuGemm<T>::gemm_serial(false, false, rows, d, keys, T{1}, dp, keys, kb, kv_stride, T{0}, dq + begin * q_stride,
                            q_stride);
  }
};

template <class T>
void CpuAttention<T>::attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q,
                                         const T* k, const T* v, const T* out, const T* log_sum, const T* out_gradient,
                                         T* q_gradient, T* k_gradient, T* v_gradient) {
  const std::int64_t d = heads.head_size, group = heads.query_heads / heads.kv_heads;
  const std::int64_t q_stride = heads.query_heads * d, kv_stride = heads.kv_heads * d;
  take_units(documents.documents * heads.kv_heads, [&](std::int64_t unit) {
    thread_local std::vector<T> scratch;
    const std::int64_t document = unit / heads.kv_heads, kv_head = unit % heads.kv_heads;
    const std::int64_t begin = documents.offsets[document], length = documents.offsets[document + 1] - begin,
                       kv = begin * kv_stride + kv_head * d;
    for (std::int64_t t = 0; t < length; ++t)
      for (T* gradient : {k_gradient, v_gradient})
        std::fill(gradient + kv + t * kv_stride, gradient + kv + t * kv_stride + d, T{0});
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const std::int64_t at = begin * q_stride + head * d;
      const AttentionBackward<T> one{heads,
                                     length,
                                     q_stride,
                                     kv_stride,
                                     q + at,
                                     k + kv,
                                     v + kv,
                                     out + at,
                                     log_sum + begin * heads.query_heads + head,
                                     out_gradient + at,
                                     q_gradient + at,
                                     k_gradient + kv,
                                     v_gradient + kv};
      for (std::int64_t b = 0; b < length; b += query_block) one.block(b, scratch);
    }
  });
}

template <class T>
void CpuAttention<T>::attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                                       const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out,
                                       T* log_sum) {
  const std::int64_t d = heads.head_size, group = heads.query_heads / heads.kv_heads;
  const std::int64_t q_stride = heads.query_heads * d, kv_stride = heads.kv_heads * d;
  take_units(documents.documents * heads.kv_heads, [&](std::int64_t unit) {
    thread_local std::vector<T> scratch;
    const std::int64_t document = unit / heads.kv_heads, kv_head = unit % heads.kv_heads;
    const std::int64_t begin = documents.offsets[document], count = documents.offsets[document + 1] - begin,
                       past = cache.past[document];
    const std::int64_t base = std::int64_t{cache.slots[document]} * cache.capacity * kv_stride + kv_head * d;
    T *keys = cache.keys + base, *values = cache.values + base;
    for (std::int64_t t = 0; t < count; ++t) {
      const std::size_t bytes = static_cast<std::size_t>(d) * sizeof(T);
      std::memcpy(keys + (past + t) * kv_stride, k + (begin + t) * kv_stride + kv_head * d, bytes);
      std::memcpy(values + (past + t) * kv_stride, v + (begin + t) * kv_stride + kv_head * d, bytes);
    }
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const std::int64_t at = begin * q_stride + head * d;
      T* sums = log_sum == nullptr ? nullptr : log_sum + begin * heads.query_heads + head;
      if (count >= 8) {
        attend(heads, count, past, q + at, q_stride, keys, values, kv_stride, out + at, sums, heads.query_heads,
               scratch);
        continue;
      }
      for (std::int64_t t = 0; t < count; ++t) {
        const std::int64_t first = first_key(past + t, heads.window), seen = past + t + 1 - first;
        grow_scratch(scratch, seen);
        KDLIB_VECTOR_CALL(attend_one, q + at + t * q_stride, keys + first * kv_stride, values + first * kv_stride, seen,
                          kv_stride, d, static_cast<T>(heads.scale), static_cast<T>(heads.softcap), scratch.data(),
                          out + at + t * q_stride, sums == nullptr ? nullptr : sums + t * heads.query_heads);
      }
    }
  });
}

template <class T>
void CpuAttention<T>::advance(std::int64_t n, std::int32_t* positions, std::int64_t* past) {
  for (std::int64_t i = 0; i < n; ++i) ++positions[i], ++past[i];
}

template <class T>
void CpuAttention<T>::attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks,
                                      T* out, T* log_sum) {
  parallel_for(tokens, 1 + 4096 / (heads * head_size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * heads; i < end * heads; ++i) {
      const T sink = sinks[i % heads], sum = log_sum[i], top = sum > sink ? sum : sink;
      log_sum[i] = top + std::log(std::exp(sum - top) + std::exp(sink - top));
      KDLIB_VECTOR_CALL(scale, head_size, std::exp(sum - log_sum[i]), out + i * head_size);
    }
  });
}

template <class T>
void CpuAttention<T>::attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size,
                                               const T* sinks, const T* out, const T* log_sum, const T* out_gradient,
                                               T* sinks_gradient) {
  parallel_for(heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t head = begin; head < end; ++head) {
      double total = 0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::int64_t i = t * heads + head;
        T delta;
        KDLIB_VECTOR_CALL(dot, out_gradient + i * head_size, out + i * head_size, head_size, &delta);
        total -= static_cast<double>(std::exp(sinks[head] - log_sum[i]) * delta);
      }
      sinks_gradient[head] += static_cast<T>(total);
    }
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
