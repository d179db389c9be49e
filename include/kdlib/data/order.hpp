// SPDX-License-Identifier: Apache-2.0
// The order in which a source goes through its items: shuffled anew in each epoch, a function of seed and position
// alone; and its cursor text.
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

/// Item `ordinal % count` of a random permutation that belongs to epoch `ordinal / count`: each item once an epoch.
/// Random numbers: Philox of (seed, shuffle, epoch). Holds one epoch's permutation (4 bytes an item), made when it is
/// first asked for.
class ShuffledOrder {
 public:
  /// ConfigError when there are no items, or 2^32 and more.
  ShuffledOrder(std::int64_t count, std::uint64_t seed);

  std::int64_t at(std::int64_t ordinal);
  /// The ordinal, in epoch 0, of an item.
  std::int64_t first_ordinal(std::int64_t item);
  std::int64_t count() const { return count_; }

 private:
  void make_epoch(std::int64_t epoch);

  std::int64_t count_, epoch_ = -1;
  std::uint64_t seed_;
  std::vector<std::uint32_t> permutation_;
  std::vector<std::uint32_t> inverse_;  // of epoch 0
};

/// The first ordinal behind a batch of `batch` items that begins at `next`: smaller at the end of the last epoch;
/// `epochs` 0: without end.
std::int64_t end_of_batch(std::int64_t next, std::int64_t batch, std::int64_t epochs, std::int64_t count);

/// "<kind> <fingerprint> <next>": where a source stands.
SourceCursor make_cursor(std::string_view kind, const Fingerprint& fingerprint, std::int64_t next);
/// The number in it. FormatError when it is not such a text, ConfigError when it belongs to another kind of source or
/// to other text.
std::int64_t read_cursor(const SourceCursor& cursor, std::string_view kind, const Fingerprint& fingerprint);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/order_inl.hpp"
#endif

#endif
