#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes include/kdlib/text/jinja_tables.hpp: what Python's str knows about code points (printable, upper, lower).

    python3 scripts/make_jinja_tables.py            # needs only Python (3.11: Unicode 14)
"""
import pathlib
import sys

OUT = pathlib.Path(__file__).resolve().parent.parent / "include/kdlib/text/jinja_tables.hpp"
EVERY = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(codes):
    """[[first, last]] of ascending code points; surrogates do not end a range."""
    out = []
    for c in codes:
        if out and (c == out[-1][1] + 1 or (out[-1][1] == 0xD7FF and c == 0xE000)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def mapping(change):
    """[[first, last, step, delta]] of one-to-one mappings, and the others as (code point, text)."""
    runs, special = [], []
    for c in EVERY:
        to = change(chr(c))
        if to == chr(c):
            continue
        if len(to) > 1:
            special.append((c, to))
            continue
        delta = ord(to) - c
        last = runs[-1] if runs else None
        if last and last[3] == delta and (c - last[1] == last[2] or (last[0] == last[1] and c - last[1] in (1, 2))):
            last[2] = c - last[1]
            last[1] = c
        else:
            runs.append([c, c, 1, delta])
    return runs, special


def lines(items):
    out, line = [], " "
    for item in items:
        if len(line) + len(item) + 2 > 118:
            out.append(line)
            line = " "
        line += " " + item + ","
    return "\n".join(out + [line])


def escaped(text):
    return '"' + "".join(f"\\x{b:02x}" for b in text.encode()) + '"'


def main():
    unprintable = ranges(c for c in EVERY if not chr(c).isprintable())
    upper, upper_special = mapping(str.upper)
    lower, lower_special = mapping(str.lower)
    number = lambda values: "{" + ", ".join(hex(v) if i < 2 else str(v) for i, v in enumerate(values)) + "}"
    words = lambda pairs: [f"{{{hex(c)}, {escaped(t)}}}" for c, t in pairs]
    OUT.write_text(f"""// SPDX-License-Identifier: Apache-2.0
// What Python's strings know about code points. Written by scripts/make_jinja_tables.py from Python {sys.version.split()[0]}.
#ifndef KDLIB_TEXT_JINJA_TABLES_HPP
#define KDLIB_TEXT_JINJA_TABLES_HPP

#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {{

struct PythonCodeRange {{
  char32_t first, last;
}};

/// Every `step`-th code point from `first` to `last` becomes itself plus `delta`.
struct PythonCaseRange {{
  char32_t first, last;
  std::int32_t step, delta;
}};

/// A code point that becomes several.
struct PythonCaseWord {{
  char32_t from;
  const char* to;  // UTF-8
}};

// clang-format off
/// What repr() escapes.
inline constexpr PythonCodeRange python_unprintable_ranges[] = {{
{lines(number(r) for r in unprintable)}
}};
inline constexpr PythonCaseRange python_upper_ranges[] = {{
{lines(number(r) for r in upper)}
}};
inline constexpr PythonCaseRange python_lower_ranges[] = {{
{lines(number(r) for r in lower)}
}};
inline constexpr PythonCaseWord python_upper_words[] = {{
{lines(words(upper_special))}
}};
inline constexpr PythonCaseWord python_lower_words[] = {{
{lines(words(lower_special))}
}};
// clang-format on

}}  // namespace detail
KDLIB_NAMESPACE_END

#endif
""")


main()
