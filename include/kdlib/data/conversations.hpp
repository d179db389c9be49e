// SPDX-License-Identifier: Apache-2.0
// Finds which tokens of a text are learned, and shifts from "this token counts" to "this row predicts a token that
// counts".
#ifndef KDLIB_DATA_CONVERSATIONS_HPP
#define KDLIB_DATA_CONVERSATIONS_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the weights of rows from a mask of tokens. mask[i] is not 0 if token i counts, because the model should have
/// written the token. Row i - 1 predicts token i, so weights[i] is 1 if mask[i + 1] is not 0, else 0; the last row has
/// weight 0. mask[0] has no effect, because the first token is never predicted.
std::vector<float> row_weights(std::span<const std::uint8_t> mask);

/// Returns the token mask of prompt + answer (+ padding): 1 from `answer_begin` up to and including the first token at
/// or after `answer_begin` that is one of `end_ids`, and 0 elsewhere. Padding is 0 even if its id is the id of an end
/// token. Without an end token the answer runs to the end of `ids`. ShapeError: `answer_begin` is beyond the end.
std::vector<std::uint8_t> answer_mask(std::span<const std::int32_t> ids, std::size_t answer_begin,
                                      std::span<const std::int32_t> end_ids);

/// Returns the number of ids up to and including the first end token of the answer. All later ids can be dropped.
std::size_t answer_end(std::span<const std::int32_t> ids, std::size_t answer_begin,
                       std::span<const std::int32_t> end_ids);

/// Returns the last `count` elements. ShapeError: `count` is larger than the number of elements.
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
