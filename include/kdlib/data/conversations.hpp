// SPDX-License-Identifier: Apache-2.0
// Which tokens of a text are learned, and the shift from "this token counts" to "this row predicts a token that
// counts".
#ifndef KDLIB_DATA_CONVERSATIONS_HPP
#define KDLIB_DATA_CONVERSATIONS_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// mask[i] is 1 where token i counts (something the model should have written). The row that predicts it is i - 1, so
/// weights[i] = mask[i + 1] and the last row has weight 0. mask[0] has no row: the first token is never predicted.
std::vector<float> row_weights(std::span<const std::uint8_t> mask);

/// Token mask of prompt + answer (+ padding): 1 from `answer_begin` to the first of `end_ids` at or behind it, that one
/// included; 0 for everything after it, also where padding and end token are the same id. Without an end token the
/// answer runs to the end.
std::vector<std::uint8_t> answer_mask(std::span<const std::int32_t> ids, std::size_t answer_begin,
                                      std::span<const std::int32_t> end_ids);

/// Number of ids that answer_mask's document needs: everything behind the first end token of the answer can be dropped.
std::size_t answer_end(std::span<const std::int32_t> ids, std::size_t answer_begin,
                       std::span<const std::int32_t> end_ids);

/// The last `count` elements; none for 0, all for the size. ShapeError for more (instead of a slice that wraps around).
template <class X>
std::span<const X> last_of(std::span<const X> values, std::size_t count) {
  require<ShapeError>(count <= values.size(), "[last_of] ", count, " of ", values.size(), " elements");
  return values.subspan(values.size() - count);
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/conversations_inl.hpp"
#endif

#endif
