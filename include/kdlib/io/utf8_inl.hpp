// SPDX-License-Identifier: Apache-2.0
// Bodies of io/utf8.hpp.
#ifndef KDLIB_IO_UTF8_INL_HPP
#define KDLIB_IO_UTF8_INL_HPP

#include <cstdint>
#include <cstring>

#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Bytes of the code point at the front of `text` (not empty), or 0 when it is not valid.
KDLIB_FUNC std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < length) return 0;
  // The second byte has a narrower range after four leads: overlong forms, surrogates, above U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i)
    if ((byte(i) & 0xC0u) != 0x80) return 0;
  return length;
}
}  // namespace detail

KDLIB_FUNC std::size_t find_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::uint64_t eight = 0;
    if (text.size() - at >= 8) {  // ASCII goes by in steps of eight
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const std::size_t length = detail::utf8_length(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

namespace detail {
/// A character that a terminal would obey: C0, DEL, C1, or a mark that turns the direction of writing.
KDLIB_FUNC bool is_control(std::string_view character) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7F;
  if (character.size() == 2) return byte(0) == 0xC2 && byte(1) < 0xA0;
  if (character.size() != 3 || byte(0) != 0xE2) return false;
  const bool embedding = byte(1) == 0x80 && byte(2) >= 0xAA && byte(2) <= 0xAE,  // U+202A to U+202E
      isolate = byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9;           // U+2066 to U+2069
  return embedding || isolate;
}
}  // namespace detail

KDLIB_FUNC std::string printable(std::string_view name, std::size_t limit) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  while (!name.empty()) {
    if (out.size() > limit) return out + "...";
    const std::size_t length = detail::utf8_length(name), taken = length == 0 ? 1 : length;
    if (length > 0 && !detail::is_control(name.substr(0, length))) {
      out.append(name.substr(0, length));
    } else {
      for (const char c : name.substr(0, taken)) {
        const auto byte = static_cast<unsigned char>(c);
        out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
      }
    }
    name.remove_prefix(taken);
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
