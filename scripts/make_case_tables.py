#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes include/kdlib/tools/letter_case.hpp: lower and title case of single code points as Python's str.capitalize has them.

    python3 scripts/make_case_tables.py > include/kdlib/tools/letter_case.hpp

Refuses a Python whose tables are not Unicode 14.0 (Python 3.11), so that the header cannot change by accident.
"""

import sys
import unicodedata

VERSION = "14.0.0"


def ranges(case):
    """(first, last, step, difference) of code points whose case is one other code point."""
    out = []
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        text = case(chr(c))
        if len(text) != 1 or text == chr(c):
            continue
        difference = ord(text) - c
        if out and out[-1][3] == difference:
            first, last, step, _ = out[-1]
            if (first == last and c - last in (1, 2)) or (first != last and c - last == step):
                out[-1] = (first, c, c - last, difference)
                continue
        out.append((c, c, 1, difference))
    return out


def table(name, rows):
    print(f"inline constexpr CaseRange {name}[] = {{")
    line = "   "
    for row in rows:
        item = " {%#x, %#x, %d, %d}," % row
        if len(line) + len(item) > 118:
            print(line)
            line = "   "
        line += item
    print(line + "\n};")


if unicodedata.unidata_version != VERSION:
    sys.exit(
        f"make_case_tables: this Python has Unicode {unicodedata.unidata_version}, the tables are made with {VERSION} (Python 3.11)"
    )
longer = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and len(chr(c).title()) != 1]
print("""// SPDX-License-Identifier: Apache-2.0
// Lower and title case of single letters (Unicode 14.0). kdlib: generated table, by scripts/make_case_tables.py.
#ifndef KDLIB_TOOLS_LETTER_CASE_HPP
#define KDLIB_TOOLS_LETTER_CASE_HPP

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Code points first, first + step, ... last have their other case `difference` away.
struct CaseRange {
  char32_t first, last;
  unsigned step;
  int difference;
};
// clang-format off""")
table("lower_case_ranges", ranges(str.lower))
table("title_case_ranges", ranges(str.title))
print("/// Their title case is two or three code points.")
print("inline constexpr char32_t longer_title_case[] = {")
print(",\n".join("    " + ", ".join("%#x" % c for c in longer[i : i + 12]) for i in range(0, len(longer), 12)) + "\n};")
print("""// clang-format on

/// The code point's other case after a table, itself where it has none.
template <unsigned long N>
constexpr char32_t case_of(const CaseRange (&table)[N], char32_t c) {
  for (const CaseRange& r : table)
    if (c >= r.first && c <= r.last) {
      if ((c - r.first) % r.step == 0) return static_cast<char32_t>(static_cast<int>(c) + r.difference);
    } else if (c < r.first) {
      break;
    }
  return c;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif""")
