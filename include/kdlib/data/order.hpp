// SPDX-License-Identifier: Apache-2.0
// The order in which a source goes through its items, and the text of its cursor. The items are shuffled again in each
// epoch; the order depends only on seed and position.
#ifndef KDLIB_DATA_ORDER_HPP
#define KDLIB_DATA_ORDER_HPP

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/fingerprint.hpp"
#include "kdlib/data/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// A shuffled order of `count` items. Place `ordinal` is entry `ordinal % count` of the random permutation of epoch
/// `ordinal / count`, so that each item occurs once in each epoch. The random numbers are Rng(seed, shuffle, epoch).
/// The object holds the permutation of one epoch (4 bytes for each item), which is made when it is first needed.
class ShuffledOrder {
 public:
  /// ConfigError: there are no items, or 2^32 or more.
  ShuffledOrder(std::int64_t count, std::uint64_t seed);

  std::int64_t at(std::int64_t ordinal);
  /// Returns the place of an item in epoch 0.
  std::int64_t first_ordinal(std::int64_t item);
  std::int64_t count() const { return count_; }

 private:
  void make_epoch(std::int64_t epoch);

  std::int64_t count_, epoch_ = -1;
  std::uint64_t seed_;
  std::vector<std::uint32_t> permutation_;
  std::vector<std::uint32_t> inverse_;  // of epoch 0
};

/// Returns the first place after a batch of `batch` items that begins at `next`. At the end of the last epoch the batch
/// is smaller. `epochs` = 0: there is no end.
std::int64_t end_of_batch(std::int64_t next, std::int64_t batch, std::int64_t epochs, std::int64_t count);

/// Returns the cursor "<kind> <fingerprint> <next>" of a source.
SourceCursor make_cursor(std::string_view kind, const Fingerprint& fingerprint, std::int64_t next);
/// Returns the number `next` of a cursor. FormatError: the text is no cursor. ConfigError: the cursor belongs to
/// another kind of source or to other text.
std::int64_t read_cursor(const SourceCursor& cursor, std::string_view kind, const Fingerprint& fingerprint);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/order_inl.hpp"
#endif

#endif
