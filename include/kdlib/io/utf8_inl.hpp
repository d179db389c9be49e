// SPDX-License-Identifier: Apache-2.0
// Bodies of io/utf8.hpp.
#ifndef KDLIB_IO_UTF8_INL_HPP
#define KDLIB_IO_UTF8_INL_HPP

#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

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
