// SPDX-License-Identifier: Apache-2.0
// Bodies of order.hpp.
#ifndef KDLIB_DATA_ORDER_INL_HPP
#define KDLIB_DATA_ORDER_INL_HPP

#include <algorithm>
#include <charconv>
#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/data/order.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC ShuffledOrder::ShuffledOrder(std::int64_t count, std::uint64_t seed) : count_(count), seed_(seed) {
  require<ConfigError>(count > 0 && count <= 0xFFFFFFFFll, "[ShuffledOrder] there are ", count,
                       " items; a source needs at least one");
}

KDLIB_FUNC void ShuffledOrder::make_epoch(std::int64_t epoch) {
  if (epoch == epoch_) return;
  permutation_.resize(static_cast<std::size_t>(count_));
  for (std::size_t i = 0; i < permutation_.size(); ++i) permutation_[i] = static_cast<std::uint32_t>(i);
  const Rng rng(seed_, RngPurpose::shuffle, static_cast<std::uint32_t>(epoch));
  for (std::size_t i = permutation_.size(); i-- > 1;)
    std::swap(permutation_[i], permutation_[static_cast<std::size_t>(rng.below(static_cast<std::uint32_t>(i), i + 1))]);
  epoch_ = epoch;
}

KDLIB_FUNC std::int64_t ShuffledOrder::at(std::int64_t ordinal) {
  require(ordinal >= 0, "[ShuffledOrder] position ", ordinal, " is negative");
  make_epoch(ordinal / count_);
  return permutation_[static_cast<std::size_t>(ordinal % count_)];
}

KDLIB_FUNC std::int64_t ShuffledOrder::first_ordinal(std::int64_t item) {
  require(item >= 0 && item < count_, "[ShuffledOrder] item ", item, " of ", count_);
  if (inverse_.empty()) {
    make_epoch(0);
    inverse_.resize(permutation_.size());
    for (std::size_t i = 0; i < permutation_.size(); ++i) inverse_[permutation_[i]] = static_cast<std::uint32_t>(i);
  }
  return inverse_[static_cast<std::size_t>(item)];
}

KDLIB_FUNC std::int64_t end_of_batch(std::int64_t next, std::int64_t batch, std::int64_t epochs, std::int64_t count) {
  const std::int64_t end = next + batch;
  return epochs > 0 ? std::max(next, std::min(end, epochs * count)) : end;
}

KDLIB_FUNC SourceCursor make_cursor(std::string_view kind, const Fingerprint& fingerprint, std::int64_t next) {
  return concat(kind, " ", fingerprint.text(), " ", next);
}

KDLIB_FUNC std::int64_t read_cursor(const SourceCursor& cursor, std::string_view kind, const Fingerprint& fingerprint) {
  const std::size_t first = cursor.find(' '), second = first == std::string::npos ? first : cursor.find(' ', first + 1);
  std::int64_t next = -1;
  const char* end = cursor.data() + cursor.size();
  const bool parsed = second != std::string::npos && [&] {
    const auto result = std::from_chars(cursor.data() + second + 1, end, next);
    return result.ec == std::errc() && result.ptr == end && next >= 0;
  }();
  require<FormatError>(parsed, "[cursor] '", cursor,
                       "' is not a place in a source: '<kind> <fingerprint> <next>' is needed");
  const std::string_view view = cursor;
  require<ConfigError>(view.substr(0, first) == kind, "[cursor] the checkpoint's source is '", view.substr(0, first),
                       "', this run's is '", kind,
                       "': resume with the settings of the first run, or start in another folder");
  require<ConfigError>(view.substr(first + 1, second - first - 1) == fingerprint.text(),
                       "[cursor] the text of the source '", kind,
                       "' has changed since the checkpoint: resume with the same files, or start in another folder");
  return next;
}

KDLIB_NAMESPACE_END

#endif
