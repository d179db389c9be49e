// SPDX-License-Identifier: Apache-2.0
// Bodies of chars_map.hpp.
#ifndef KDLIB_TEXT_CHARS_MAP_INL_HPP
#define KDLIB_TEXT_CHARS_MAP_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/text/chars_map.hpp"
#include "kdlib/text/grapheme_tables.hpp"
#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC CharsMap::CharsMap(std::string blob, std::string_view source) : blob_(std::move(blob)) {
  if (blob_.empty()) return;
  const auto number = [this](std::size_t at) {
    std::uint32_t out = 0;
    for (std::size_t b = 4; b-- > 0;) out = out << 8 | static_cast<unsigned char>(blob_[at + b]);
    return out;
  };
  const std::size_t size = blob_.size() >= 4 ? number(0) : 0;
  require<FormatError>(size >= 4 && size % 4 == 0 && size <= blob_.size() - 4, "[tokenizer] ", source,
                       ": the map of characters has ", blob_.size(), " bytes, of which its keys would take ", size);
  texts_ = 4 + size;
  require<FormatError>(texts_ < blob_.size() && blob_.back() == '\0', "[tokenizer] ", source,
                       ": the texts of the map of characters do not end with a zero byte");
  for (std::size_t at = 4; at < texts_; at += 4) units_.push_back(number(at));
}

/// Calls visit(bytes of the key, place of its text) for each key with which the text begins, until it returns false.
template <class Visit>
void CharsMap::walk(std::string_view text, Visit&& visit) const {
  if (units_.empty()) return;
  const auto offset = [](std::uint32_t unit) {
    const std::uint32_t at = (unit >> 10) << ((unit & (1U << 9)) >> 6);
    return static_cast<std::size_t>(at);
  };
  std::size_t node = offset(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size() || (units_[node] & ((1U << 31) | 0xFFU)) != byte) return;
    const bool ends = (units_[node] >> 8 & 1) != 0;
    node ^= offset(units_[node]);
    if (node >= units_.size()) return;
    if (ends && !visit(i + 1, units_[node] & ((1U << 31) - 1))) return;
  }
}

KDLIB_FUNC std::string_view CharsMap::mapped(std::uint32_t place) const {
  if (place >= blob_.size() - texts_) return {};
  return blob_.c_str() + texts_ + place;  // up to the zero byte, which blob_ ends with at the latest
}

KDLIB_FUNC CharsMap::Match CharsMap::longest(std::string_view text) const {
  std::size_t length = 0;
  std::uint32_t place = 0;
  walk(text, [&](std::size_t bytes, std::uint32_t value) {
    length = bytes;
    place = value;
    return true;
  });
  return length == 0 ? Match{} : Match{length, mapped(place)};
}

KDLIB_FUNC CharsMap::Match CharsMap::shortest(std::string_view text) const {
  Match out;
  walk(text, [&](std::size_t bytes, std::uint32_t value) {
    out = {bytes, mapped(value)};
    return false;
  });
  return out;
}

/// Class of a code point in grapheme_runs.
KDLIB_FUNC unsigned grapheme_class(char32_t c) {
  struct Range {
    char32_t begin;
    unsigned kind;
  };
  static const std::vector<Range> ranges = [] {
    std::vector<Range> out;
    char32_t at = 0;
    for (const std::uint32_t run : grapheme_runs) {
      out.push_back({at, run & 3});
      at += run >> 2;
    }
    return out;
  }();
  const auto behind = std::upper_bound(ranges.begin(), ranges.end(), c,
                                       [](char32_t wanted, const Range& range) { return wanted < range.begin; });
  return (behind - 1)->kind;
}

KDLIB_FUNC std::size_t grapheme_end(std::string_view text, std::size_t at) {
  if (text.substr(at, 2) == "\r\n") return at + 2;
  // Printable ASCII never joins with more of it: most text ends here, without a search in the table.
  const auto plain = [&](std::size_t i) { return text[i] >= ' ' && text[i] <= '~'; };
  if (plain(at) && (at + 1 == text.size() || plain(at + 1))) return at + 1;
  unsigned kind = grapheme_class(next_code_point(text.data(), at));
  if (kind == 3) return at;
  while (at < text.size()) {
    std::size_t behind = at;
    const unsigned next = grapheme_class(next_code_point(text.data(), behind));
    const bool joins = next == 1 || (kind == 2 && next != 3);
    if (!joins) break;
    kind = next;
    at = behind;
  }
  return at;
}

KDLIB_FUNC void CharsMap::append_mapped(std::string_view text, std::string& out) const {
  // Printable ASCII characters that the map leaves alone: most of a long text is runs of them, each a cluster.
  bool kept[128] = {};
  if (text.size() >= 256)
    for (char c = ' '; c <= '~'; ++c) kept[static_cast<unsigned char>(c)] = shortest({&c, 1}).length == 0;
  const auto plain = [&](std::size_t i) { return text[i] >= ' ' && text[i] <= '~'; };
  for (std::size_t at = 0; at < text.size();) {
    std::size_t run = at;
    while (run < text.size() && plain(run) && kept[static_cast<unsigned char>(text[run])] &&
           (run + 1 == text.size() || plain(run + 1)))
      ++run;
    out.append(text.substr(at, run - at));
    at = run;
    if (at == text.size()) break;
    const std::size_t end = grapheme_end(text, at);
    if (end - at < 6) {
      if (const Match match = shortest(text.substr(at, end - at)); match.length > 0) {
        out.append(match.text);
        at = end;
        continue;
      }
    }
    while (at < end) {
      const std::size_t begin = at;
      next_code_point(text.data(), at);
      const std::string_view character = text.substr(begin, at - begin);
      const Match match = shortest(character);
      out.append(match.length > 0 ? match.text : character);
    }
  }
}

inline constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

KDLIB_FUNC bool decode_base64(std::string_view text, std::string& out) {
  if (text.size() % 4 != 0) return false;
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - padding - 1] == '=') ++padding;
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < text.size() - padding; ++i) {
    const std::size_t digit = base64_digits.find(text[i]);
    if (digit == std::string_view::npos) return false;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    if (i % 4 != 3) continue;
    for (const int shift : {16, 8, 0})
      out.push_back(static_cast<char>(static_cast<unsigned char>(bits >> shift & 255)));
    bits = 0;
  }
  if (padding == 1) {
    for (const int shift : {10, 2}) out.push_back(static_cast<char>(static_cast<unsigned char>(bits >> shift & 255)));
  } else if (padding == 2) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(bits >> 4 & 255)));
  }
  return true;
}

KDLIB_FUNC std::string encode_base64(std::string_view bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t bits = 0;
    for (std::size_t b = 0; b < 3; ++b)
      bits = bits << 8 | (at + b < bytes.size() ? static_cast<unsigned char>(bytes[at + b]) : 0U);
    for (std::size_t d = 0; d < 4; ++d)
      out.push_back(at + d > bytes.size() ? '=' : base64_digits[bits >> (18 - 6 * d) & 63]);
  }
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
