// SPDX-License-Identifier: Apache-2.0
// Bodies of line_split.hpp.
#ifndef KDLIB_DATA_LINE_SPLIT_INL_HPP
#define KDLIB_DATA_LINE_SPLIT_INL_HPP

#include <algorithm>
#include <cmath>
#include <utility>

#include "kdlib/core/fields.hpp"
#include "kdlib/data/line_split.hpp"
#include "kdlib/io/checksum.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC double prompt_hash(const TextLine& line) {
  const auto first = std::find(line.mask.begin(), line.mask.end(), std::uint8_t{1});
  auto count = static_cast<std::size_t>(first - line.mask.begin());
  // The first token never counts where nothing stands before it, as in a line from a cache: it is no prompt.
  if (line.kind == TextLineKind::prompt || count <= 1) count = line.ids.size();
  const std::uint64_t hash = xxh64(std::as_bytes(std::span(line.ids.data(), count)));
  return std::ldexp(static_cast<double>(hash >> 11), -53);
}

KDLIB_FUNC LineSplit split_lines(std::vector<TextLine> lines, double share) {
  require<ConfigError>(share > 0 && share < 1, "[split_lines] the share of validation is ", share,
                       "; it must be above 0 and below 1");
  const std::size_t count = lines.size();
  LineSplit out;
  double least = 1;
  for (TextLine& line : lines) {
    const double hash = prompt_hash(line);
    const bool validates = hash < share;
    least = std::min(least, hash);
    (validates ? out.validation : out.train).push_back(std::move(line));
  }
  require<InputError>(
      !out.validation.empty(), "[split_lines] of ", count, " lines none falls into a share of ", setting_text(share),
      " for validation: their content decides, and the first one falls into a share of ",
      setting_text(std::ceil(least * 1000 + 1e-9) / 1000), "; raise it to that, or give a file of its own");
  require<InputError>(!out.train.empty(), "[split_lines] all ", count, " lines fall into a share of ",
                      setting_text(share), " for validation and none is left to train on; lower it");
  return out;
}

KDLIB_NAMESPACE_END

#endif
