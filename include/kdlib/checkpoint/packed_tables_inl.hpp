// SPDX-License-Identifier: Apache-2.0
// Embedding and head of a packed directory in the blocks of the file they came from (packed_save.hpp).
#ifndef KDLIB_CHECKPOINT_PACKED_TABLES_INL_HPP
#define KDLIB_CHECKPOINT_PACKED_TABLES_INL_HPP

#include <algorithm>

#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/checkpoint/save_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// True where decoding `blocks` gives the values of `t`; zeros of either sign are equal.
template <class D, class T>
bool same_values(const SavedTensor<D, T>& t, GgufType type, std::span<const std::byte> blocks) {
  const auto row_bytes = static_cast<std::int64_t>(blocks.size()) / t.shape[0];
  std::int64_t row = 0;
  bool same = true;
  std::vector<T> decoded;
  each_saved_piece(t, [&](const T* values, std::size_t count) {
    if (!same) return;
    decoded.resize(count);
    decode_elements(type, blocks.data() + row * row_bytes, decoded.data(), count);
    same = std::equal(decoded.begin(), decoded.end(), values);  // NaN: no
    row += static_cast<std::int64_t>(count) / t.shape[1];
  });
  return same;
}

/// Finds the blocks of tables in the file that the model came from; tables that changed since stay numbers. Answers how
/// many were found.
template <class D, class T>
std::int64_t find_stored_tables(const Decoder<D, T>& model, std::vector<SavedTensor<D, T>>& tensors) {
  const std::string& source = model.source();
  if (source.empty() || !path_exists(source)) return 0;
  const LoadPlan plan = plan_load<D, T>(source);
  std::int64_t found = 0;
  for (const PlannedWeight& w : plan.weights) {
    if ((w.name != "model.embed_tokens.weight" && w.name != "lm_head.weight") || w.tensors.size() != 1) continue;
    const PlannedTensor& stored = w.tensors[0];
    const auto t = std::find_if(tensors.begin(), tensors.end(), [&](const auto& x) { return x.name == w.name; });
    if (stored.decoding != TensorDecoding::elements || block_size(stored.elements) == 1 || t == tensors.end()) continue;
    if (!(t->shape == w.shape) || !same_values(*t, stored.elements, stored.data)) continue;
    t->blocks = stored.data;
    t->block_type = stored.elements;
    t->owner = plan.files;
    ++found;
  }
  return found;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
