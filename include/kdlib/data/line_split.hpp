// SPDX-License-Identifier: Apache-2.0
// Divides lines into a part to train on and a part to validate on. The prompt of a line decides, not its place in the
// file.
#ifndef KDLIB_DATA_LINE_SPLIT_HPP
#define KDLIB_DATA_LINE_SPLIT_HPP

#include <vector>

#include "kdlib/data/text_lines.hpp"

KDLIB_NAMESPACE_BEGIN

/// The two parts of the lines of a file.
struct LineSplit {
  std::vector<TextLine> train, validation;  // each in the order of the file
};

/// Returns a number in [0, 1) made from the prompt of a line by the hash XXH64 of its ids. The prompt of a given text
/// are the ids before the first token that counts. If that is the first or the second token, the text has no prompt
/// (one token alone, such as the token of the beginning, would be the same for all texts) and all ids are hashed. The
/// same prompt has the same number in every file, at every place and on every machine, so that all answers to one
/// prompt fall into the same part.
double prompt_hash(const TextLine& line);

/// Puts the lines whose prompt_hash() is below `share` into the validation part. The part of a line does not depend on
/// other lines or on their order, and a larger share keeps all lines of a smaller one. ConfigError: `share` is not in
/// (0, 1). InputError: one of the two parts would be empty.
LineSplit split_lines(std::vector<TextLine> lines, double share);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/line_split_inl.hpp"
#endif

#endif
