// SPDX-License-Identifier: Apache-2.0
// The head of a cached teacher: one file beside its hidden states.
#ifndef KDLIB_TEACHER_CACHE_HEAD_HPP
#define KDLIB_TEACHER_CACHE_HEAD_HPP

#include <memory>
#include <string>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/quant/packed_matrix.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// A head with its memory. view() borrows it.
template <class T, class D>
struct CachedHead {
  Tensor<T, D> weight, bias;  // weight: empty where `packed` holds it
  std::shared_ptr<const PackedMatrix<T, D>> packed{};
  Shape shape{0, 0};  // [V, H]
  float softcap = 0, logit_scale = 1;
  std::int64_t real_vocabulary = 0;

  HeadView<T, D> view() const;
};

/// Writes head.safetensors: "weight" [V, H] as the model computes with it, or, for a head that stays in the blocks of
/// its model's file, those bytes [V, bytes of a row] with metadata "type": products with the head that is read back are
/// the same, bit for bit. "bias" [V] where there is one.
template <class T, class D>
void write_cache_head(const std::string& path, const HeadView<T, D>& head);

/// Reads it. FormatError naming the file and what does not fit: sizes, an unknown type.
template <class T, class D>
CachedHead<T, D> read_cache_head(const std::string& path, std::int64_t vocabulary, std::int64_t hidden_size);

KDLIB_NAMESPACE_END

#include "kdlib/teacher/cache_head_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_head_metadata_inl.hpp"
#endif

#endif
