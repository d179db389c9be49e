// SPDX-License-Identifier: Apache-2.0
// Which rows of a loss call count (head_loss_rows_inl.hpp).
#ifndef KDLIB_LOSS_PACKED_ROWS_INL_HPP
#define KDLIB_LOSS_PACKED_ROWS_INL_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/loss/head_loss.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class X>
std::vector<X> taken_rows(std::span<const X> from, const std::vector<std::int64_t>& index, bool all) {
  if (all || from.empty()) return std::vector<X>(from.begin(), from.end());
  std::vector<X> out;
  for (const std::int64_t r : index) out.push_back(from[static_cast<std::size_t>(r)]);
  return out;
}

KDLIB_FUNC PackedRows PackedRows::of(const RowInputs& rows, std::span<const float> teacher_label, std::int64_t count) {
  PackedRows p;
  bool all = true;
  for (const float w : rows.weights) all = all && w != 0;
  if (!all)
    for (std::int64_t r = 0; r < count; ++r)
      if (rows.weights[static_cast<std::size_t>(r)] != 0) p.index.push_back(r);
  p.take_inputs(rows, teacher_label, all, all ? count : static_cast<std::int64_t>(p.index.size()));
  return p;
}

KDLIB_FUNC PackedRows PackedRows::every(const RowInputs& rows, std::span<const float> teacher_label,
                                        std::int64_t count) {
  PackedRows p;
  p.take_inputs(rows, teacher_label, true, count);
  return p;
}

KDLIB_FUNC void PackedRows::take_inputs(const RowInputs& rows, std::span<const float> teacher_labels, bool all_rows,
                                        std::int64_t n) {
  labels = taken_rows(rows.labels, index, all_rows);
  weights = taken_rows(rows.weights, index, all_rows);
  behaviour = taken_rows(rows.behaviour_log_probs, index, all_rows);
  teacher_label = taken_rows(teacher_labels, index, all_rows);
  all = all_rows, count = n;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
