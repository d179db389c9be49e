// SPDX-License-Identifier: Apache-2.0
// Lines divided into a part to train on and a part to validate on, by what they ask and not by where they stand.
#ifndef KDLIB_DATA_LINE_SPLIT_HPP
#define KDLIB_DATA_LINE_SPLIT_HPP

#include <vector>

#include "kdlib/data/text_lines.hpp"

KDLIB_NAMESPACE_BEGIN

/// The lines of a file in two parts, by prompt.
struct LineSplit {
  std::vector<TextLine> train, validation;  // each in the order of the file
};

/// A number in [0, 1) that belongs to the line's prompt: its ids, or those of a given text in front of the first token
/// that counts (of a text that counts from its beginning, all ids). XXH64 of the ids, so that the same prompt has the
/// same number in every file, at every place, on every machine, and all answers to it fall into one part.
double prompt_hash(const TextLine& line);

/// Validation gets the lines whose number is below `share`: other lines, their order and the rest of a file change
/// nothing, and a larger share keeps what a smaller one had. ConfigError unless share is in (0, 1); InputError where
/// one of the two parts would be empty.
LineSplit split_lines(std::vector<TextLine> lines, double share);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/line_split_inl.hpp"
#endif

#endif
