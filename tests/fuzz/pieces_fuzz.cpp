// SPDX-License-Identifier: Apache-2.0
// Arbitrary pieces and scores over a few characters: SentencePiece's BPE and Unigram give what their definitions give.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/unicode.hpp"

using namespace kdlib;
using detail::PieceModel;
using detail::Vocabulary;
using Ids = std::vector<std::int32_t>;

namespace {

constexpr std::string_view alphabet[] = {"a", "b", "c", "\u2581", "\u00e9", "\u65e5", "\U0001F600", "d"};

/// Reads characters until a byte of 8 or more.
std::string word(const std::uint8_t*& data, const std::uint8_t* end) {
  std::string out;
  while (data != end && *data % 16 < 8) out += alphabet[*data++ % 16];
  if (data != end) ++data;
  return out;
}

/// The pair of neighbours whose joined piece has the highest score, until there is none; then unknown parts fuse.
Ids join_slowly(const PieceModel& model, std::string_view text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0, behind = 0; at < text.size(); at = behind) {
    detail::next_code_point(text.data(), behind);
    parts.emplace_back(text.substr(at, behind - at));
  }
  for (;;) {
    std::size_t best = parts.size();
    double score = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const std::int32_t id = model.pieces.find(parts[i] + parts[i + 1]);
      if (id == Vocabulary::none) continue;
      const double found = model.scores[static_cast<std::size_t>(id)];
      if (best == parts.size() || found > score) best = i, score = found;
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) {
    const std::int32_t id = model.pieces.find(part);
    if (id != Vocabulary::none) ids.push_back(id);
    else if (ids.empty() || ids.back() != model.unknown) ids.push_back(model.unknown);
  }
  return ids;
}

double sum_of(const PieceModel& model, const Ids& ids, double unknown) {
  double sum = 0;
  for (const std::int32_t id : ids) sum += id == model.unknown ? unknown : model.scores[static_cast<std::size_t>(id)];
  return sum;
}

/// The highest sum of scores of a segmentation of a text whose characters are all pieces.
double best_sum(const PieceModel& model, std::string_view text) {
  std::vector<double> best(text.size() + 1, -1e300);
  best[0] = 0;
  for (std::size_t end = 1; end <= text.size(); ++end)
    for (std::size_t begin = 0; begin < end; ++begin) {
      const std::int32_t id = model.pieces.find(text.substr(begin, end - begin));
      if (id != Vocabulary::none)
        best[end] = std::max(best[end], best[begin] + model.scores[static_cast<std::size_t>(id)]);
    }
  return best[text.size()];
}

void must(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 400) return 0;
  const std::uint8_t* const end = data + size;
  PieceModel model;
  const bool unigram = *data % 2 == 1;
  std::size_t pieces = *data++ / 2 % 32;
  model.kind = unigram ? PieceModel::Kind::unigram : PieceModel::Kind::merges;
  model.unknown = 0;
  model.fuse_unknown = true;
  model.pieces.add("<unk>", 0);
  model.scores.push_back(0);
  const auto add = [&](const std::string& piece, double score) {
    if (!piece.empty() && model.pieces.add(piece, model.pieces.size())) model.scores.push_back(score);
  };
  for (; pieces > 0 && data != end; --pieces) {
    const double score = -static_cast<double>(*data++ % 8);
    add(word(data, end), score);
  }
  if (unigram)
    for (const std::string_view character : alphabet) add(std::string(character), -9);
  else model.merge_by_scores();
  model.finish();
  detail::BpeScratch scratch;
  while (data != end) {
    const std::string text = word(data, end);
    Ids ids;
    model.encode(text, scratch, ids);
    if (unigram) {
      must(sum_of(model, ids, 0) == best_sum(model, text));  // sums of small integers are exact
      std::string whole;
      for (const std::int32_t id : ids) whole += model.pieces.bytes(id);
      must(whole == text);
    } else {
      must(ids == join_slowly(model, text));
    }
  }
  return 0;
}
