// SPDX-License-Identifier: Apache-2.0
// What a trainer needs from a source of existing text: batches in a fixed order, and the place in that order, which a
// checkpoint keeps.
#ifndef KDLIB_DATA_CONCEPTS_HPP
#define KDLIB_DATA_CONCEPTS_HPP

#include <concepts>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// The place of a source in its order: one short line of printable ASCII. The line also names the source, so that the
/// cursor of another source is refused.
using SourceCursor = std::string;

/// The description of a source as (key, value) texts, which a checkpoint compares. A source may return its description
/// by `describe()`.
using SourceDescription = SettingsList;

/// A source of existing text. `next()` returns nothing at the end. After `seek(cursor)` with the cursor of an equal
/// source, the same batches follow, bit for bit.
template <class S>
concept DataSource = requires(S& source, const S& constant, const SourceCursor& cursor) {
  { source.next() } -> std::same_as<std::optional<TokenBatch>>;
  { constant.cursor() } -> std::convertible_to<SourceCursor>;
  source.seek(cursor);
};

/// A source that can pass over a batch without making the batch, as ranks do with the batches of other ranks. `skip()`
/// moves the cursor as next() would and returns false at the end. Text that all ranks need (a block that a teacher
/// writes) is made by skip() and next() alike, in the same order.
template <class S>
concept SkippableSource = requires(S& source) {
  { source.skip() } -> std::same_as<bool>;
};

KDLIB_NAMESPACE_END

#endif
