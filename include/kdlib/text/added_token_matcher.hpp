// SPDX-License-Identifier: Apache-2.0
// Searches a text for added tokens (whole strings such as <|im_end|>). Tokenizers and chat templates use this search.
#ifndef KDLIB_TEXT_ADDED_TOKEN_MATCHER_HPP
#define KDLIB_TEXT_ADDED_TOKEN_MATCHER_HPP

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/text/added_tokens.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Searches for a fixed set of strings. The leftmost match is taken and, of several matches at one place, the longest;
/// matches do not overlap.
class AddedTokenMatcher {
 public:
  struct Match {
    std::size_t begin, end;
    const AddedToken* token;  // nullptr: there is no further match
  };
  void add(std::string_view needle, const AddedToken* token);  // needle not empty; token must outlive the matcher
  void finish();                                               // to be called after the last add()
  bool empty() const { return needles_.empty(); }
  Match find(std::string_view text, std::size_t from) const;

 private:
  struct Needle {
    std::string text;
    const AddedToken* token;
  };
  std::vector<Needle> needles_;  // sorted by text
  bool first_byte_[256] = {};
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/added_token_matcher_inl.hpp"
#endif

#endif
