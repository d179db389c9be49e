// SPDX-License-Identifier: Apache-2.0
// Bodies of nfc.hpp: only the stretches that the quick check flags are decomposed, ordered and composed.
#ifndef KDLIB_TEXT_NFC_INL_HPP
#define KDLIB_TEXT_NFC_INL_HPP

#include <algorithm>
#include <iterator>
#include <vector>

#include "kdlib/text/nfc.hpp"
#include "kdlib/text/unicode_tables.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class NfcTables {
 public:
  struct Pair {
    char32_t whole, first, second;  // second 0: a single part
  };

  static const NfcTables& get() {
    static const NfcTables tables;
    return tables;
  }

  const Pair* decomposition(char32_t c) const {
    const auto hit =
        std::lower_bound(parts_.begin(), parts_.end(), c, [](const Pair& p, char32_t x) { return p.whole < x; });
    return hit != parts_.end() && hit->whole == c ? &*hit : nullptr;
  }

  /// The primary composite of two code points, or 0.
  char32_t composition(char32_t first, char32_t second) const {
    const auto less = [](const Pair& p, const Pair& q) {
      return p.first != q.first ? p.first < q.first : p.second < q.second;
    };
    const Pair wanted{0, first, second};
    const auto hit = std::lower_bound(pairs_.begin(), pairs_.end(), wanted, less);
    return hit != pairs_.end() && hit->first == first && hit->second == second ? hit->whole : 0;
  }

  std::uint8_t combining_class(char32_t c) const {
    const std::uint32_t* begin = unicode_combining_runs;
    std::size_t low = 0, high = std::size(unicode_combining_runs) / 3;  // the last run that starts at or before c
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if (begin[3 * middle] <= c) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low == 0) return 0;
    const std::uint32_t* run = begin + 3 * (low - 1);
    return c - run[0] < run[1] ? static_cast<std::uint8_t>(run[2]) : std::uint8_t{0};
  }

 private:
  NfcTables() {
    char32_t at = 0;
    for (std::size_t i = 0; i < std::size(unicode_decompositions); i += 3) {
      at += unicode_decompositions[i];
      const Pair pair{at, unicode_decompositions[i + 1], unicode_decompositions[i + 2] >> 1};
      parts_.push_back(pair);
      if (pair.second != 0 && (unicode_decompositions[i + 2] & 1) == 0) pairs_.push_back(pair);
    }
    std::sort(pairs_.begin(), pairs_.end(), [](const Pair& p, const Pair& q) {
      return p.first != q.first ? p.first < q.first : p.second < q.second;
    });
  }
  std::vector<Pair> parts_, pairs_;  // by whole; by (first, second)
};

// Hangul syllables are computed, not listed: leading consonant, vowel, optional trailing consonant.
inline constexpr char32_t hangul_s = 0xAC00, hangul_l = 0x1100, hangul_v = 0x1161, hangul_t = 0x11A7;
inline constexpr char32_t hangul_l_count = 19, hangul_v_count = 21, hangul_t_count = 28;

struct ClassedPoint {
  char32_t c;
  std::uint8_t combining_class;
};

KDLIB_FUNC void append_decomposed(char32_t c, const NfcTables& tables, std::vector<ClassedPoint>& out) {
  if (c >= hangul_s && c < hangul_s + hangul_l_count * hangul_v_count * hangul_t_count) {
    const char32_t s = c - hangul_s, t = s % hangul_t_count;
    out.push_back({hangul_l + s / (hangul_v_count * hangul_t_count), 0});
    out.push_back({hangul_v + s / hangul_t_count % hangul_v_count, 0});
    if (t != 0) out.push_back({hangul_t + t, 0});
  } else if (const NfcTables::Pair* pair = tables.decomposition(c)) {
    append_decomposed(pair->first, tables, out);  // at most four levels deep in Unicode
    if (pair->second != 0) append_decomposed(pair->second, tables, out);
  } else {
    out.push_back({c, tables.combining_class(c)});
  }
}

KDLIB_FUNC char32_t compose_pair(char32_t a, char32_t b, const NfcTables& tables) {
  if (a >= hangul_l && a < hangul_l + hangul_l_count && b >= hangul_v && b < hangul_v + hangul_v_count)
    return hangul_s + ((a - hangul_l) * hangul_v_count + (b - hangul_v)) * hangul_t_count;
  const bool syllable = a >= hangul_s && a < hangul_s + hangul_l_count * hangul_v_count * hangul_t_count;
  if (syllable && (a - hangul_s) % hangul_t_count == 0 && b > hangul_t && b < hangul_t + hangul_t_count)
    return a + (b - hangul_t);
  return tables.composition(a, b);
}

/// Normalises one stretch that begins at a boundary (or at the start of the text) and ends before the next one.
KDLIB_FUNC void append_nfc_stretch(std::string_view text, std::vector<ClassedPoint>& points, std::string& out) {
  const NfcTables& tables = NfcTables::get();
  points.clear();
  for (std::size_t at = 0; at < text.size();) append_decomposed(next_code_point(text.data(), at), tables, points);

  // Canonical ordering: marks between two starters, stably by class.
  for (auto begin = points.begin(); begin != points.end();) {
    begin = std::find_if(begin, points.end(), [](const ClassedPoint& p) { return p.combining_class != 0; });
    const auto end = std::find_if(begin, points.end(), [](const ClassedPoint& p) { return p.combining_class == 0; });
    std::stable_sort(
        begin, end, [](const ClassedPoint& p, const ClassedPoint& q) { return p.combining_class < q.combining_class; });
    begin = end;
  }

  // Composition: a code point joins the last starter unless one of the same or a higher class stands between them.
  constexpr std::size_t none = static_cast<std::size_t>(-1);
  std::size_t kept = 0, starter = none;
  for (const ClassedPoint point : points) {
    const bool blocked =
        starter == none || (kept - 1 != starter && (points[kept - 1].combining_class == 0 ||
                                                    points[kept - 1].combining_class >= point.combining_class));
    const char32_t whole = blocked ? 0 : compose_pair(points[starter].c, point.c, tables);
    if (whole != 0) {
      points[starter].c = whole;
      continue;
    }
    points[kept] = point;
    if (point.combining_class == 0) starter = kept;
    ++kept;
  }
  for (std::size_t i = 0; i < kept; ++i) append_utf8(out, points[i].c);
}

/// Offset of the first character at or behind `at` that NFC may touch (`flagged`) or surely leaves (`!flagged`), or the
/// text's size.
KDLIB_FUNC std::size_t find_nfc_flag(std::string_view text, std::size_t at, bool flagged) {
  const UnicodeTables& tables = UnicodeTables::get();
  while (at < text.size()) {
    const std::size_t before = at;
    if (static_cast<std::uint8_t>(text[at]) < 0xCC) {  // below U+0300 nothing changes
      if (!flagged) return before;
      at += static_cast<std::uint8_t>(text[at]) < 0x80 ? 1 : 2;
      continue;
    }
    if (((tables.value(next_code_point(text.data(), at)) & 8) != 0) == flagged) return before;
  }
  return text.size();
}

}  // namespace detail

KDLIB_FUNC bool is_surely_nfc(std::string_view text) { return detail::find_nfc_flag(text, 0, true) == text.size(); }

KDLIB_FUNC std::string nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<detail::ClassedPoint> points;
  std::size_t done = 0;
  while (done < text.size()) {
    const std::size_t flag = detail::find_nfc_flag(text, done, true);
    // The character before the flagged one may combine with it; everything before that is final.
    std::size_t begin = flag;
    if (flag < text.size() && begin > done) {
      --begin;
      while ((static_cast<std::uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
    }
    out.append(text.substr(done, begin - done));
    if (flag == text.size()) break;
    const std::size_t end = detail::find_nfc_flag(text, flag, false);
    detail::append_nfc_stretch(text.substr(begin, end - begin), points, out);
    done = end;
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
