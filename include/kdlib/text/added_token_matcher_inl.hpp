// SPDX-License-Identifier: Apache-2.0
// Bodies of added_token_matcher.hpp.
#ifndef KDLIB_TEXT_ADDED_TOKEN_MATCHER_INL_HPP
#define KDLIB_TEXT_ADDED_TOKEN_MATCHER_INL_HPP

#include <algorithm>

#include "kdlib/text/added_token_matcher.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void AddedTokenMatcher::add(std::string_view needle, const AddedToken* token) {
  needles_.push_back({std::string(needle), token});
  first_byte_[static_cast<unsigned char>(needle[0])] = true;
}

KDLIB_FUNC void AddedTokenMatcher::finish() {
  std::sort(needles_.begin(), needles_.end(), [](const Needle& a, const Needle& b) { return a.text < b.text; });
}

KDLIB_FUNC AddedTokenMatcher::Match AddedTokenMatcher::find(std::string_view text, std::size_t from) const {
  for (std::size_t at = from; at < text.size(); ++at) {
    if (!first_byte_[static_cast<unsigned char>(text[at])]) continue;
    // Narrow the sorted needles byte by byte; the last complete one on the way is the longest.
    auto begin = needles_.begin(), end = needles_.end();
    const Needle* hit = nullptr;
    for (std::size_t depth = 0; begin != end; ++depth) {
      if (begin->text.size() == depth) {
        hit = &*begin;
        if (++begin == end) break;
      }
      if (at + depth >= text.size()) break;
      const auto byte = static_cast<unsigned char>(text[at + depth]);
      begin = std::partition_point(begin, end,
                                   [&](const Needle& n) { return static_cast<unsigned char>(n.text[depth]) < byte; });
      end = std::partition_point(begin, end,
                                 [&](const Needle& n) { return static_cast<unsigned char>(n.text[depth]) == byte; });
    }
    if (hit != nullptr) return {at, at + hit->text.size(), hit->token};
  }
  return {text.size(), text.size(), nullptr};
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
