// SPDX-License-Identifier: Apache-2.0
// Bodies of conversations.hpp.
#ifndef KDLIB_DATA_CONVERSATIONS_INL_HPP
#define KDLIB_DATA_CONVERSATIONS_INL_HPP

#include <algorithm>

#include "kdlib/data/conversations.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::vector<float> row_weights(std::span<const std::uint8_t> mask) {
  std::vector<float> weights(mask.size(), 0.0f);
  for (std::size_t i = 0; i + 1 < mask.size(); ++i) weights[i] = mask[i + 1] != 0 ? 1.0f : 0.0f;
  return weights;
}

KDLIB_FUNC std::size_t answer_end(std::span<const std::int32_t> ids, std::size_t answer_begin,
                                  std::span<const std::int32_t> end_ids) {
  require<ShapeError>(answer_begin <= ids.size(), "[answer_mask] the answer begins at ", answer_begin, " of ",
                      ids.size(), " tokens");
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(answer_begin);
  const auto end = std::find_first_of(begin, ids.end(), end_ids.begin(), end_ids.end());
  return static_cast<std::size_t>(end - ids.begin()) + (end == ids.end() ? 0 : 1);
}

KDLIB_FUNC std::vector<std::uint8_t> answer_mask(std::span<const std::int32_t> ids, std::size_t answer_begin,
                                                 std::span<const std::int32_t> end_ids) {
  const std::size_t end = answer_end(ids, answer_begin, end_ids);
  std::vector<std::uint8_t> mask(ids.size(), 0);
  for (std::size_t i = answer_begin; i < end; ++i) mask[i] = 1;
  return mask;
}

KDLIB_NAMESPACE_END

#endif
