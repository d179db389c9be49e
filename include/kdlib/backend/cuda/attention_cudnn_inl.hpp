// SPDX-License-Identifier: Apache-2.0
// Attention that goes to cuDNN: whether it does, and the indices that cuDNN reads.
#ifndef KDLIB_BACKEND_CUDA_ATTENTION_CUDNN_INL_HPP
#define KDLIB_BACKEND_CUDA_ATTENTION_CUDNN_INL_HPP

#include <initializer_list>

#include "kdlib/backend/cuda/each_inl.hpp"
#include "kdlib/backend/cuda/library_attention.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Lengths of the documents, and where they begin in queries, keys and log-sums.
struct CudnnIndices {
  const std::int64_t* offsets;
  std::int64_t documents, query_width, kv_width, query_heads;
  std::int32_t* lengths;
  std::int64_t *query_offsets, *kv_offsets, *log_sum_offsets;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t begin = offsets[i];
    query_offsets[i] = begin * query_width;
    kv_offsets[i] = begin * kv_width;
    log_sum_offsets[i] = begin * query_heads;
    if (i < documents) lengths[i] = static_cast<std::int32_t>(offsets[i + 1] - begin);
  }
};

/// True where the program asked for cuDNN and the rule has nothing against it.
template <class T>
bool cudnn_takes(const AttentionHeads& heads, const DocumentRanges& documents, AttentionPass pass,
                 std::initializer_list<const void*> arrays) {
  if (attention_library() != AttentionLibrary::cudnn) return false;
  if (cudnn_refusal(heads, documents, dtype_of<T>(), pass, cudnn_facts()) != nullptr) return false;
  for (const void* p : arrays)
    if (!is_aligned_16(p)) return false;
  return true;
}

/// `a`: the arrays of numbers, and the pass in its key.
inline void launch_cudnn(const AttentionHeads& heads, const DocumentRanges& documents, CudnnAttention a) {
  const std::int64_t n = documents.documents;
  const Buffer<std::int32_t, Cuda> lengths(n);
  const Buffer<std::int64_t, Cuda> begins(3 * (n + 1));
  std::int64_t* const query = begins.data();
  const CudnnIndices indices{documents.offsets,
                             n,
                             heads.query_heads * heads.head_size,
                             heads.kv_heads * heads.head_size,
                             heads.query_heads,
                             lengths.data(),
                             query,
                             query + (n + 1),
                             query + 2 * (n + 1)};
  for_each_element(indices, n + 1);
  a.key = cudnn_plan_key(heads, documents, a.key.pass);
  a.lengths = indices.lengths;
  a.query_offsets = indices.query_offsets;
  a.kv_offsets = indices.kv_offsets;
  a.log_sum_offsets = indices.log_sum_offsets;
  run_cudnn_attention(a);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
