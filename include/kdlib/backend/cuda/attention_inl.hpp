// SPDX-License-Identifier: Apache-2.0
// Launches of the attention kernels.
#ifndef KDLIB_BACKEND_CUDA_ATTENTION_INL_HPP
#define KDLIB_BACKEND_CUDA_ATTENTION_INL_HPP

#include <type_traits>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/attention_backward_body_inl.hpp"
#include "kdlib/backend/cuda/attention_cudnn_inl.hpp"
#include "kdlib/backend/cuda/each_inl.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline void check_attention(const AttentionHeads& heads) {
  require<ShapeError>(heads.kv_heads > 0 && heads.query_heads % heads.kv_heads == 0 && heads.window >= 0,
                      "[attention] ", heads.query_heads, " query heads over ", heads.kv_heads,
                      " key/value heads, window ", heads.window);
  require<ShapeError>(heads.softcap >= 0, "[attention] a soft cap of ", heads.softcap, "; it must be 0 (none) or more");
  require<ShapeError>(heads.head_size >= 1 && heads.head_size <= 256, "[attention] a head size of ", heads.head_size,
                      "; the CUDA kernels take 1 to 256");
}
template <class T>
AttentionShape<T> attention_shape(const AttentionHeads& heads, const DocumentRanges& documents) {
  using C = accumulate_t<T>;
  return {heads.query_heads,
          heads.kv_heads,
          heads.head_size,
          heads.window,
          static_cast<C>(heads.scale),
          static_cast<C>(heads.softcap),
          documents.offsets,
          documents.documents};
}
/// Tiles that the documents have at most; their lengths are on the device.
inline std::int64_t most_tiles(const DocumentRanges& documents) {
  return documents.tokens / attention_tile + documents.documents;
}
/// f(the columns that a kernel is compiled for).
template <class F>
void with_columns(std::int64_t head_size, F f) {
  if (head_size <= 64) f(std::integral_constant<int, 64>{});
  else if (head_size <= 128) f(std::integral_constant<int, 128>{});
  else f(std::integral_constant<int, 256>{});
}

template <class T>
void launch_forward(const AttentionHeads& heads, const DocumentRanges& documents, const CacheRanges<T>* cache,
                    const T* q, const T* k, const T* v, T* out, accumulate_t<T>* log_sum) {
  with_columns(heads.head_size, [&](auto columns) {
    AttentionForward<T, columns()> kernel{
        attention_shape<T>(heads, documents), q, k, v, out, log_sum, 0, nullptr, nullptr};
    if (cache != nullptr) kernel.capacity = cache->capacity, kernel.slots = cache->slots, kernel.past = cache->past;
    launch(kernel,
           {.blocks = most_tiles(documents), .blocks_y = heads.query_heads, .shared_bytes = kernel.shared_bytes()});
  });
}

template <class T>
void CudaAttention<T>::attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                                 const T* v, T* out, C* log_sum) {
  check_attention(heads);
  if (documents.tokens <= 0) return;
  if constexpr (std::is_same_v<T, bf16>)
    if (cudnn_takes<T>(heads, documents, AttentionPass::forward, {q, k, v, out}))
      return launch_cudnn(heads, documents, {.q = q, .k = k, .v = v, .out = out, .log_sum = log_sum});
  launch_forward<T>(heads, documents, nullptr, q, k, v, out, log_sum);
}

template <class T>
void CudaAttention<T>::attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q,
                                          const T* k, const T* v, const T* out, const C* log_sum, const T* out_gradient,
                                          T* q_gradient, T* k_gradient, T* v_gradient) {
  check_attention(heads);
  if (documents.tokens <= 0) return;
  if constexpr (std::is_same_v<T, bf16>)
    if (cudnn_takes<T>(heads, documents, AttentionPass::backward,
                       {q, k, v, out, out_gradient, q_gradient, k_gradient, v_gradient}))
      return launch_cudnn(heads, documents,
                          {.key = {.pass = AttentionPass::backward},
                           .q = q,
                           .k = k,
                           .v = v,
                           .out = out,
                           .log_sum = log_sum,
                           .out_gradient = out_gradient,
                           .q_gradient = q_gradient,
                           .k_gradient = k_gradient,
                           .v_gradient = v_gradient});
  const std::int64_t rows = documents.tokens * heads.query_heads;
  const Buffer<C, Cuda> delta(rows);
  for_each_warp(AttentionDelta<T>{rows, heads.head_size, out, out_gradient, delta.data()}, rows);
  const AttentionGradientInputs<T> in{
      attention_shape<T>(heads, documents), q, k, v, out_gradient, log_sum, delta.data()};
  with_columns(heads.head_size, [&](auto columns) {
    launch(KeyValueGradient<T, columns()>{in, k_gradient, v_gradient},
           {.blocks = most_tiles(documents), .blocks_y = heads.kv_heads, .shared_bytes = in.shared_bytes()});
    launch(QueryGradient<T, columns()>{in, q_gradient},
           {.blocks = most_tiles(documents), .blocks_y = heads.query_heads, .shared_bytes = in.shared_bytes()});
  });
}

/// Few new tokens a document meet the cache by splits of its keys; more of them by tiles.
template <class T>
void CudaAttention<T>::attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                                        const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out,
                                        C* log_sum) {
  check_attention(heads);
  if (documents.tokens <= 0) return;
  const std::int64_t width = heads.kv_heads * heads.head_size;
  for_each_element(AppendToCache<T>{documents.offsets, documents.documents, width, cache.capacity, cache.slots,
                                    cache.past, k, v, cache.keys, cache.values},
                   documents.tokens * width);
  if (documents.tokens > 4 * documents.documents)
    return launch_forward<T>(heads, documents, &cache, q, cache.keys, cache.values, out, log_sum);
  const std::int64_t splits = (cache.capacity + decode_split - 1) / decode_split,
                     rows = documents.tokens * heads.query_heads;
  const Buffer<C, Cuda> tops(rows * splits), totals(rows * splits), sums(rows * splits * heads.head_size);
  const DecodeSplits<T> kernel{attention_shape<T>(heads, documents),
                               q,
                               cache.keys,
                               cache.values,
                               splits,
                               cache.capacity,
                               cache.slots,
                               cache.past,
                               tops.data(),
                               totals.data(),
                               sums.data()};
  launch(kernel,
         {.blocks = documents.tokens * splits, .blocks_y = heads.kv_heads, .shared_bytes = kernel.shared_bytes()});
  for_each_warp(MergeSplits<T>{rows, heads.head_size, splits, tops.data(), totals.data(), sums.data(), out, log_sum},
                rows);
}

struct AdvanceSequences {
  std::int32_t* positions;
  std::int64_t* past;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const { ++positions[i], ++past[i]; }
};
template <class T>
void CudaAttention<T>::advance(std::int64_t n, std::int32_t* positions, std::int64_t* past) {
  for_each_element(AdvanceSequences{positions, past}, n);
}

template <class T>
void CudaAttention<T>::attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks,
                                       T* out, C* log_sum) {
  const std::int64_t rows = tokens * heads;
  for_each_warp(AddSinks<T>{rows, heads, head_size, sinks, out, log_sum}, rows);
}
template <class T>
void CudaAttention<T>::attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size,
                                                const T* sinks, const T* out, const C* log_sum, const T* out_gradient,
                                                C* sinks_gradient) {
  if (tokens <= 0) return;
  launch(SinksGradient<T>{tokens, heads, head_size, sinks, out, log_sum, out_gradient, sinks_gradient},
         {.blocks = heads, .shared_bytes = reduce_bytes});
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
