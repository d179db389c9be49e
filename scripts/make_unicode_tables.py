#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes include/kdlib/text/unicode_tables.hpp: the tables that the tokenizers library 0.23 uses, since its ids are the published ones.

    python3 scripts/make_unicode_tables.py > include/kdlib/text/unicode_tables.hpp

Character classes of Unicode 16 from the package unicodedata2 16.0.0, normalisation of Unicode 9 from Python's unicodedata. Refuses a Python
whose tables are not Unicode 14.0 (Python 3.11 has these), so that the header cannot change by accident.
"""

import sys
import unicodedata as U

import unicodedata2 as C

VERSION, CLASS_VERSION = "14.0.0", "16.0.0"
WHITE_SPACE = {
    *range(0x09, 0x0E),
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
}
OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE = range(7)  # UnicodeClass of unicode.hpp
CLASS_OF = {
    "Lu": UPPER,
    "Lt": UPPER,
    "Ll": LOWER,
    "Lm": LETTER,
    "Lo": LETTER,
    "Mn": MARK,
    "Mc": MARK,
    "Me": MARK,
    "Nd": NUMBER,
    "Nl": NUMBER,
    "No": NUMBER,
}
TOP = 0x110000
# To Unicode 9 these marks of Unicode 10 to 14 are starters that are never reordered, and U+11938 has no parts.
LATE_MARKS = """07FD 0898-089F 08CA-08D3 09FE 0C3C 0D3B-0D3C 0EBA 1715 1ABF-1ACE 1DF6-1DFA A82C 10D24-10D27 10EAB-10EAC 10F46-10F50 10F82-10F85
11070 1133B 1145E 11839-1183A 1193D-1193E 11943 119E0 11A34 11A47 11A99 11D42 11D44-11D45 11D97 16FF0-16FF1 1E130-1E136 1E2AE 1E2EC-1E2EF"""
LATE = {c for part in LATE_MARKS.split() for c in range(int(part.split("-")[0], 16), int(part.split("-")[-1], 16) + 1)}
LATE_COMPOSITIONS = {0x11938}


def combining(c):
    return 0 if c in LATE else U.combining(chr(c))


def decomposition(c):
    """The canonical decomposition of one code point as one or two code points, or None."""
    text = U.decomposition(chr(c))
    return [int(x, 16) for x in text.split()] if text and not text.startswith("<") else None


def runs(value_of):
    """(length, value) for maximal runs of equal values over all code points."""
    out, start, value = [], 0, value_of(0)
    for c in range(1, TOP + 1):
        now = value_of(c) if c < TOP else None
        if now != value:
            out.append((c - start, value))
            start, value = c, now
    return out


def lines(numbers, width=118):
    out, line = [], ""
    for n in numbers:
        item = f"{n},"
        if len(line) + len(item) > width:
            out.append(line)
            line = ""
        line += item
    return "\n".join(out + [line])


def main():
    if U.unidata_version != VERSION:
        sys.exit(
            f"make_unicode_tables: this Python has Unicode {U.unidata_version}, the tables are made with {VERSION} (Python 3.11)"
        )
    if C.unidata_version != CLASS_VERSION:
        sys.exit(
            f"make_unicode_tables: unicodedata2 has Unicode {C.unidata_version}, the classes are of {CLASS_VERSION}"
        )
    parts = {c: d for c in range(TOP) if c not in LATE_COMPOSITIONS and (d := decomposition(c))}
    composes = {c for c, d in parts.items() if len(d) == 2 and U.normalize("NFC", chr(d[0]) + chr(d[1])) == chr(c)}
    seconds = {parts[c][1] for c in composes} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    # Code points that NFC may touch: everything but starters that normalise to themselves and never join the character before.
    touched = (set(parts) - composes) | seconds | {c for c in range(TOP) if combining(c)}

    def value(c):
        kind = SPACE if c in WHITE_SPACE else CLASS_OF.get(C.category(chr(c)), OTHER)
        return kind | (8 if c in touched else 0)

    classes = []
    for length, v in runs(value):
        while length > 0:  # 12 bits of length a number
            classes.append(min(length, 4095) << 4 | v)
            length -= 4095
    marks, at = [], 0
    for length, v in runs(combining):
        if v:
            marks += [at, length, v]
        at += length
    # Deltas keep the text short: code point minus the one before it, then first part, then second part (0: none, 1 added: no composition).
    pairs, before = [], 0
    for c, d in sorted(parts.items()):
        pairs += [c - before, d[0], 0 if len(d) == 1 else d[1] * 2 + (c not in composes)]
        before = c
    print(f"""// SPDX-License-Identifier: Apache-2.0
// Unicode {CLASS_VERSION} (normalisation: 9) as run lengths. kdlib: generated table, by scripts/make_unicode_tables.py;
// do not edit. unicode_inl.hpp unpacks the runs on first use.
#ifndef KDLIB_TEXT_UNICODE_TABLES_HPP
#define KDLIB_TEXT_UNICODE_TABLES_HPP

#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {{

// clang-format off
// Runs over all code points from 0: length << 4 | NFC may touch it << 3 | UnicodeClass.
inline constexpr std::uint16_t unicode_class_runs[] = {{
{lines(classes)}
}};

// Triples first code point, count, canonical combining class (not 0).
inline constexpr std::uint32_t unicode_combining_runs[] = {{
{lines(marks)}
}};

// Triples of canonical decompositions by code point: difference from the code point before, first part, and 0 for a
// single part or second part * 2 + (1 when the pair must not be composed again).
inline constexpr std::uint32_t unicode_decompositions[] = {{
{lines(pairs)}
}};
// clang-format on

}}  // namespace detail
KDLIB_NAMESPACE_END

#endif""")


main()
