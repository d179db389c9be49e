// SPDX-License-Identifier: Apache-2.0
// Bodies of unicode.hpp.
#ifndef KDLIB_TEXT_UNICODE_INL_HPP
#define KDLIB_TEXT_UNICODE_INL_HPP

#include <cstring>

#include "kdlib/text/unicode.hpp"
#include "kdlib/text/unicode_tables.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC UnicodeTables::UnicodeTables() {
  std::string page(128, '\0');
  std::size_t at = 0, next_page = 0;
  const auto end_page = [&] {
    // Equal pages lie mostly side by side, so comparing with all earlier ones (a few hundred) is cheap enough for once.
    std::size_t found = 0;
    while (found * 128 < pages_.size() && std::memcmp(pages_.data() + found * 128, page.data(), 128) != 0) ++found;
    if (found * 128 == pages_.size()) pages_ += page;
    index_[next_page++] = static_cast<std::uint16_t>(found);
    at = 0;
  };
  for (const std::uint16_t run : unicode_class_runs) {
    for (std::size_t left = run >> 4; left > 0;) {
      const std::size_t n = left < 128 - at ? left : 128 - at;
      std::memset(page.data() + at, run & 15, n);
      at += n;
      left -= n;
      if (at == 128) end_page();
    }
  }
}

KDLIB_FUNC const UnicodeTables& UnicodeTables::get() {
  static const UnicodeTables tables;
  return tables;
}

KDLIB_FUNC Utf8Step utf8_step(std::string_view bytes) {
  using Kind = Utf8Step::Kind;
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return {Kind::character, 1};
  if (first < 0xC2 || first > 0xF4) return {Kind::invalid, 1};
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF (Unicode 14, table 3-7).
  const std::uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const std::uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= bytes.size()) return {Kind::incomplete, i};
    const std::uint8_t b = byte(i);
    if (i == 1 ? (b < low || b > high) : (b < 0x80 || b > 0xBF)) return {Kind::invalid, i};
  }
  return {Kind::character, length};
}

}  // namespace detail

KDLIB_FUNC UnicodeClass unicode_class(char32_t c) {
  return static_cast<UnicodeClass>(detail::UnicodeTables::get().value(c) & 7);
}

KDLIB_FUNC std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const std::size_t bad = find_invalid_utf8(bytes);
    out.append(bytes.substr(0, bad));
    if (bad == std::string_view::npos) break;
    bytes.remove_prefix(bad);
    out.append("\xEF\xBF\xBD");
    bytes.remove_prefix(detail::utf8_step(bytes).length);
  }
  return out;
}

KDLIB_FUNC void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

KDLIB_NAMESPACE_END

#endif
