// SPDX-License-Identifier: Apache-2.0
// Weights that stay as their files have them: parts of mapped memory, and codes.
#ifndef KDLIB_CHECKPOINT_LOAD_STORED_INL_HPP
#define KDLIB_CHECKPOINT_LOAD_STORED_INL_HPP

#include <atomic>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/packed_parts.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/io/safetensors.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// MXFP4 scales hold no NaN.
KDLIB_FUNC void check_mxfp4_scales(const PlannedTensor& scales) {
  std::atomic<bool> found{false};
  parallel_for(static_cast<std::int64_t>(scales.data.size()), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    if (std::memchr(scales.data.data() + begin, 255, static_cast<std::size_t>(end - begin)) != nullptr) found = true;
  });
  require<FormatError>(!found, "[decoder] ", scales.file, ": tensor \"", scales.name, "\": a scale is 255 (NaN)");
}

KDLIB_FUNC std::optional<StoredParts> stored_parts(const PlannedWeight& w) {
  StoredParts s;
  s.columns = w.shape[w.shape.rank() - 1];
  s.rows = w.row_count();
  const PlannedTensor& first = w.tensors.front();
  if (first.decoding == TensorDecoding::mxfp4) {
    check_mxfp4_scales(w.tensors[1]);
    s.type = GgufType::mxfp4;
    s.parts = {first.data.data()};
    s.scales = {w.tensors[1].data.data()};
    return s;
  }
  for (const PlannedTensor& t : w.tensors)
    if (t.decoding != TensorDecoding::elements || t.elements != first.elements) return std::nullopt;
  s.type = first.elements;
  s.rotated_head = first.rows.head;
  s.alternate = first.rows.step == 2;
  // Gate and up of an expert follow each other in memory where each is one tensor of all experts.
  const std::size_t experts = first.rows.group > 0 && !s.alternate ? static_cast<std::size_t>(w.shape[0]) : 1;
  for (std::size_t e = 0; e < experts; ++e)
    for (const PlannedTensor& t : w.tensors) s.parts.push_back(t.data.data() + e * (t.data.size() / experts));
  return s;
}

KDLIB_FUNC CodedData read_codes(const LoadPlan& plan, const PlannedWeight& w) {
  std::vector<std::string> names;
  const auto& files = *static_cast<const SafetensorsDirectory*>(plan.files.get());
  PackedParts parts(files, w.name.substr(0, w.name.size() - 7), w.shape[0], w.shape[1], names);
  return std::move(*read_packed(parts, *plan.packed));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
