// SPDX-License-Identifier: Apache-2.0
// UTF-8, and the few classes of characters that pre-tokenizers distinguish (Unicode 16, as in the tokenizers library).
#ifndef KDLIB_TEXT_UNICODE_HPP
#define KDLIB_TEXT_UNICODE_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kdlib/config.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

/// The classes of characters that the regexes of byte-level tokenizers distinguish, with the general categories of
/// Unicode that belong to them. Every code point has exactly one class.
enum class UnicodeClass : std::uint8_t {
  other,   // all others: punctuation, symbols, controls, unassigned code points
  upper,   // Lu Lt
  lower,   // Ll
  letter,  // Lm Lo: letters without case
  mark,    // M
  number,  // Nd Nl No
  space    // White_Space
};

/// Returns the class of a code point (Unicode 16).
UnicodeClass unicode_class(char32_t c);

/// Returns the text with each maximal invalid part replaced by one U+FFFD (Unicode 14, table 3-8), as Python and Rust
/// do.
std::string replace_invalid_utf8(std::string_view bytes);

void append_utf8(std::string& out, char32_t c);  // c is a Unicode scalar value

namespace detail {

/// A table of all code points. value(c) & 7 is the class of c; value(c) & 8 is set if NFC may change c.
class UnicodeTables {
 public:
  static const UnicodeTables& get();
  std::uint8_t value(char32_t c) const {
    return c < 0x110000 ? static_cast<std::uint8_t>(pages_[(static_cast<std::size_t>(index_[c >> 7]) << 7) | (c & 127)])
                        : std::uint8_t{0};
  }

 private:
  UnicodeTables();
  std::uint16_t index_[0x110000 >> 7] = {};
  std::string pages_;  // bytes, 128 for each page
};

/// Returns the code point at text[at] and moves `at` behind this code point. The text must be well-formed UTF-8.
inline char32_t next_code_point(const char* text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const char32_t first = byte(at);
  if (first < 0x80) {
    at += 1;
    return first;
  }
  if (first < 0xE0) {
    at += 2;
    return (first & 0x1F) << 6 | (byte(at - 1) & 0x3Fu);
  }
  if (first < 0xF0) {
    at += 3;
    return (first & 0x0F) << 12 | (byte(at - 2) & 0x3Fu) << 6 | (byte(at - 1) & 0x3Fu);
  }
  at += 4;
  return (first & 0x07) << 18 | (byte(at - 3) & 0x3Fu) << 12 | (byte(at - 2) & 0x3Fu) << 6 | (byte(at - 1) & 0x3Fu);
}

/// What a byte string begins with: a character of `length` bytes, an invalid part of `length` bytes, or the incomplete
/// beginning of a character that further bytes may complete.
struct Utf8Step {
  enum class Kind { character, invalid, incomplete } kind;
  std::size_t length;
};
Utf8Step utf8_step(std::string_view bytes);  // `bytes` must not be empty

}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/unicode_inl.hpp"
#endif

#endif
