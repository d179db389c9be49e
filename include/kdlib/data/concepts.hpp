// SPDX-License-Identifier: Apache-2.0
// What a trainer asks of text that exists: batches in a fixed order, and a place in that order which a checkpoint
// keeps.
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

/// A source's place: one short line of printable ASCII that names what it belongs to, so that a cursor of another
/// source is refused.
using SourceCursor = std::string;

/// What a source is, as (key, value) texts that a checkpoint compares. A source may offer it as `describe()`.
using SourceDescription = SettingsList;

/// Text that exists. `next()` is empty at the end; after `seek(cursor())` of an equal source the same batches follow,
/// bit for bit.
template <class S>
concept DataSource = requires(S& source, const S& constant, const SourceCursor& cursor) {
  { source.next() } -> std::same_as<std::optional<TokenBatch>>;
  { constant.cursor() } -> std::convertible_to<SourceCursor>;
  source.seek(cursor);
};

/// A source that can pass over a batch without making it: what ranks do with batches of other ranks. `skip()` moves the
/// cursor as next() would and is false at the end. Text that all ranks need (a block that a teacher writes) is made by
/// both in the same order.
template <class S>
concept SkippableSource = requires(S& source) {
  { source.skip() } -> std::same_as<bool>;
};

KDLIB_NAMESPACE_END

#endif
