// SPDX-License-Identifier: Apache-2.0
// The part for validation depends on prompts alone: not on order, neighbours, answers or files.
#include "kdlib/data/line_split.hpp"

#include <algorithm>
#include <cmath>

#include "kdlib/core/fields.hpp"
#include "support/catch.hpp"

using namespace kdlib;

namespace {

TextLine prompt(std::int32_t n) { return {TextLineKind::prompt, {n, n + 1, 2 * n}, {}, concat("p.jsonl:", n), {}}; }

/// The same prompt with an answer of `words` tokens behind it.
TextLine answered(std::int32_t n, std::int32_t words) {
  TextLine line = prompt(n);
  line.kind = TextLineKind::given_text;
  line.mask.assign(line.ids.size(), 0);
  for (std::int32_t i = 0; i < words; ++i) line.ids.push_back(100 + i), line.mask.push_back(1);
  return line;
}

std::vector<std::string> sources(const std::vector<TextLine>& lines) {
  std::vector<std::string> out;
  for (const TextLine& line : lines) out.push_back(line.source);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST_CASE("a line's part does not depend on the order of lines or on other lines", "[data]") {
  std::vector<TextLine> lines;
  for (std::int32_t n = 0; n < 1000; ++n) lines.push_back(prompt(n));
  const LineSplit first = split_lines(lines, 0.2);
  CHECK(first.train.size() + first.validation.size() == 1000);
  CHECK(first.validation.size() > 150);  // 200 expected, deviation 12.6
  CHECK(first.validation.size() < 250);
  CHECK(std::is_sorted(first.train.begin(), first.train.end(),
                       [](const TextLine& a, const TextLine& b) { return a.ids[0] < b.ids[0]; }));
  std::reverse(lines.begin(), lines.end());
  std::rotate(lines.begin(), lines.begin() + 333, lines.end());
  const LineSplit turned = split_lines(lines, 0.2);
  CHECK(sources(turned.validation) == sources(first.validation));
  CHECK(sources(turned.train) == sources(first.train));
  lines.resize(500);
  for (const TextLine& line : split_lines(lines, 0.2).validation) {
    const auto all = sources(first.validation);
    CHECK(std::binary_search(all.begin(), all.end(), line.source));
  }
}

TEST_CASE("all answers to a prompt, and the prompt alone, fall into one part; a larger share keeps a smaller one's",
          "[data]") {
  std::vector<TextLine> half, most;
  for (std::int32_t n = 0; n < 200; ++n) {
    CHECK(prompt_hash(answered(n, 1)) == prompt_hash(prompt(n)));
    CHECK(prompt_hash(answered(n, 7)) == prompt_hash(prompt(n)));
    half.push_back(prompt(n));
  }
  most = half;
  const auto small = sources(split_lines(half, 0.3).validation), large = sources(split_lines(most, 0.6).validation);
  CHECK(std::includes(large.begin(), large.end(), small.begin(), small.end()));
  CHECK(large.size() > small.size());
  // Text that counts from its first token on has no prompt: the whole text decides.
  const TextLine text{TextLineKind::given_text, {1, 2, 3}, {1, 1, 1}, "", {}},
      other{TextLineKind::given_text, {1, 2, 4}, {1, 1, 1}, "", {}};
  CHECK(prompt_hash(text) != prompt_hash(other));
  // So it is where the first token alone does not count: it may be the same in all texts, and a cache does not tell.
  TextLine masked = text, answer = text;
  masked.mask = {0, 1, 1};
  answer.mask = {0, 0, 1};
  CHECK(prompt_hash(masked) == prompt_hash(text));
  CHECK(prompt_hash(answer) != prompt_hash(text));
  // A fixed value: a split must not change with the version. XXH64 of the bytes 01 00 00 00 02 00 00 00.
  const TextLine fixed{TextLineKind::prompt, {1, 2}, {}, "", {}};
  CHECK(prompt_hash(fixed) == 0.8017165975460475);
}

TEST_CASE("a share that is none or leaves a part empty is refused", "[data]") {
  const std::vector<TextLine> lines{prompt(1), prompt(2)};
  for (const double share : {0.0, 1.0, -0.1, 2.0})
    CHECK_THROWS_WITH(split_lines(lines, share), contains("above 0 and below 1"));
  CHECK_THROWS_WITH(split_lines(lines, 1e-9), contains("of 2 lines none falls into a share of 1e-09"));
  // What it says would do does: the smallest share, up to thousandths.
  const double least = std::min(prompt_hash(lines[0]), prompt_hash(lines[1]));
  const double enough = std::ceil(least * 1000) / 1000;
  CHECK_THROWS_WITH(split_lines(lines, 1e-9), contains("the first one falls into a share of " + setting_text(enough)));
  CHECK(split_lines(lines, enough).validation.size() == 1);
  CHECK_THROWS_WITH(split_lines(lines, 1 - 1e-9), contains("none is left to train on"));
}
