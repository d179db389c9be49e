#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes include/kdlib/text/grapheme_tables.hpp: clusters, which the tokenizers library maps as a whole.

    python3 scripts/make_grapheme_tables.py > include/kdlib/text/grapheme_tables.hpp

Needs the package regex (Grapheme_Cluster_Break of Unicode 17; made with regex 2026.11.19).
"""

import regex

HEAD = """// SPDX-License-Identifier: Apache-2.0
// Grapheme clusters (Unicode) as run lengths. kdlib: generated table, by scripts/make_grapheme_tables.py; do not edit.
#ifndef KDLIB_TEXT_GRAPHEME_TABLES_HPP
#define KDLIB_TEXT_GRAPHEME_TABLES_HPP

#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

// clang-format off
// Runs over all code points from 0: length << 2 | class (0: other, 1: stays with what stands in front, 2: stays with
// what follows, 3: stands alone).
inline constexpr std::uint32_t grapheme_runs[] = {"""
TAIL = """};
// clang-format on

}  // namespace detail
KDLIB_NAMESPACE_END

#endif"""
CLASSES = {
    1: r"\\p{GCB=Extend}|\\p{GCB=ZWJ}|\\p{GCB=SpacingMark}",
    2: r"\\p{GCB=Prepend}",
    3: r"\\p{GCB=Control}|\\p{GCB=CR}|\\p{GCB=LF}",
}


def main():
    patterns = {value: regex.compile(p.replace("\\\\", "\\")) for value, p in CLASSES.items()}
    runs = []
    for c in range(0x110000):
        surrogate = 0xD800 <= c < 0xE000
        value = next((v for v, p in patterns.items() if not surrogate and p.match(chr(c))), 0)
        if runs and runs[-1][1] == value:
            runs[-1][0] += 1
        else:
            runs.append([1, value])
    print(HEAD)
    line = ""
    for length, value in runs:
        word = f"{length << 2 | value},"
        if len(line) + len(word) > 118:
            print(line)
            line = ""
        line += word
    print(line)
    print(TAIL)


main()
