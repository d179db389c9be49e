// SPDX-License-Identifier: Apache-2.0
// The head (the last matrix) of a cached teacher, kept in one file beside the teacher's hidden states.
#ifndef KDLIB_TEACHER_CACHE_HEAD_HPP
#define KDLIB_TEACHER_CACHE_HEAD_HPP

#include <memory>
#include <string>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/quant/packed_matrix.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// A head together with the memory that holds its numbers. view() borrows this memory.
template <class T, class D>
struct CachedHead {
  Tensor<T, D> weight, bias;  // [V, H] and [V] or empty; weight is empty if `packed` holds the matrix
  std::shared_ptr<const PackedMatrix<T, D>> packed{};
  Shape shape{0, 0};  // [V, H]
  float softcap = 0, logit_scale = 1;
  std::int64_t real_vocabulary = 0;

  HeadView<T, D> view() const;
};

/// Writes head.safetensors. The tensor "weight" is [V, H] in the scalar type that the model computes with. If the head
/// stays in the block format of its model's file, "weight" holds the bytes of these blocks, [V, bytes of a row], and
/// the metadata "type" names the format. In both cases products with the head that is read back are the same, bit for
/// bit. The tensor "bias" [V] is written if the head has a bias.
template <class T, class D>
void write_cache_head(const std::string& path, const HeadView<T, D>& head);

/// Reads a file that write_cache_head() wrote. `vocabulary` (V) and `hidden_size` (H) are the sizes that the head must
/// have. FormatError names the file and what does not fit: a size, or an unknown block format.
template <class T, class D>
CachedHead<T, D> read_cache_head(const std::string& path, std::int64_t vocabulary, std::int64_t hidden_size);

KDLIB_NAMESPACE_END

#include "kdlib/teacher/cache_head_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_head_metadata_inl.hpp"
#endif

#endif
