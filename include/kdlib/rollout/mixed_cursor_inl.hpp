// SPDX-License-Identifier: Apache-2.0
// Bodies of mixed.hpp that do not depend on its parts.
#ifndef KDLIB_ROLLOUT_MIXED_CURSOR_INL_HPP
#define KDLIB_ROLLOUT_MIXED_CURSOR_INL_HPP

#include <charconv>

#include "kdlib/core/error.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/rollout/mixed.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC bool student_writes(double lambda, std::uint64_t seed, std::int64_t step) {
  return Rng(seed, RngPurpose::lambda_coin, static_cast<std::uint32_t>(step)).uniform(0) <
         lambda;  // uniform is in [0, 1)
}

namespace detail {

KDLIB_FUNC MixedCursor parse_mixed_cursor(const SourceCursor& cursor) {
  const std::string prefix = "mixed ";
  const std::size_t first = cursor.find('|'), second = first == std::string::npos ? first : cursor.find('|', first + 1);
  MixedCursor out;
  const bool parsed = cursor.compare(0, prefix.size(), prefix) == 0 && second != std::string::npos && [&] {
    const auto result = std::from_chars(cursor.data() + prefix.size(), cursor.data() + first, out.batches);
    return result.ec == std::errc() && result.ptr == cursor.data() + first && out.batches >= 0;
  }();
  require<ConfigError>(
      parsed, "[Mixed] '", cursor,
      "' is no place in a mixed source: resume with the settings of the first run, or start in another folder");
  out.offline = cursor.substr(first + 1, second - first - 1);
  out.online = cursor.substr(second + 1);
  return out;
}

KDLIB_FUNC void check_mixed(const MixedSettings& settings) {
  require<ConfigError>(settings.lambda >= 0 && settings.lambda <= 1, "[Mixed] lambda is ", settings.lambda,
                       "; it must be from 0 (given text alone) to 1 (student-written text alone)");
  require<ConfigError>(settings.micro_batches >= 1, "[Mixed] micro_batches is ", settings.micro_batches,
                       "; it must be 1 or more");
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
