// SPDX-License-Identifier: Apache-2.0
// Bodies of session_parts.hpp.
#ifndef KDLIB_RECIPE_SESSION_PARTS_INL_HPP
#define KDLIB_RECIPE_SESSION_PARTS_INL_HPP

#include <algorithm>

#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/recipe/session_parts.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC OpenedCache OpenedCache::open(const std::string& folder) {
  OpenedCache out;
  if (CacheMeta::read(folder).settings.kind == CacheKind::hidden) out.hidden.emplace(folder);
  else out.top_k.emplace(TopKCache::open(folder));
  return out;
}

KDLIB_FUNC std::optional<Tokenizer> tokenizer_of_cache(const TeacherCache& cache) {
  const std::string place = join_path(cache.folder(), "tokenizer");
  if (!is_directory(place)) return std::nullopt;
  std::optional<Tokenizer> found = find_model_tokenizer(place);
  if (!found) return std::nullopt;
  const std::string hash = tokenizer_hash(*found), &made_with = cache.meta().facts.tokenizer;
  require<FormatError>(hash == made_with, "[teacher cache] ", place, ": the tokenizer has the hash ", hash,
                       ", meta.json says ", made_with, ": it is another one; copy the teacher's files there again");
  return found;
}

KDLIB_FUNC std::string cache_text(const TeacherCache& cache) {
  const CacheMeta& meta = cache.meta();
  const std::string& who = meta.facts.teacher;
  return concat(who.empty() ? "unnamed" : who, ", from ",
                meta.settings.kind == CacheKind::hidden ? std::string("hidden states")
                                                        : concat("the ", meta.settings.top_k, " most probable tokens"),
                " in ", cache.folder());
}

KDLIB_FUNC std::vector<TextLine> lines_of(const TeacherCache& cache) {
  const TokenBatch tokens = cache.tokens();
  std::vector<TextLine> lines;
  for (std::int64_t b = 0; b < tokens.documents(); ++b) {
    TextLine line;
    const auto begin = tokens.offsets[static_cast<std::size_t>(b)],
               end = tokens.offsets[static_cast<std::size_t>(b + 1)];
    line.kind = TextLineKind::given_text;
    line.ids.assign(tokens.ids.begin() + begin, tokens.ids.begin() + end);
    line.mask.assign(line.ids.size(), 0);
    for (std::int64_t i = begin; i + 1 < end; ++i)
      line.mask[static_cast<std::size_t>(i + 1 - begin)] = tokens.weights[static_cast<std::size_t>(i)] != 0 ? 1 : 0;
    line.source = tokens.sources[static_cast<std::size_t>(b)];
    lines.push_back(std::move(line));
  }
  return lines;
}

KDLIB_FUNC std::string trained_text(const RecipeStudent& s) {
  const bool lora = s.trains == RecipeTrains::lora;
  if (lora && !s.rounded) return "an adapter; adapter/ holds it in PEFT's form";
  if (lora)
    return "an adapter beside frozen codes; adapter/ holds it in PEFT's form, base/ the codes that it belongs to";
  if (!s.rounded) return "every weight; model/ holds them";
  const char* what = s.trains == RecipeTrains::qat_lora ? "an adapter inside the rounding, Q(W + s B A)"
                     : s.trains == RecipeTrains::all    ? "every weight, linear layers through their codes"
                                                        : "the scales of the codes";
  return concat(
      what, "; model/ holds the values of the codes in float32, exactly those that were trained, packed/ the codes");
}

KDLIB_FUNC std::string mebibytes_text(std::int64_t bytes) {
  return number_text("%.1f", static_cast<double>(bytes) / 1048576.0);
}

KDLIB_FUNC bool reads_tokens_alone(const LossExpression& loss) {
  return std::all_of(loss.terms.begin(), loss.terms.end(), [](const AnyTerm& term) {
    return term.loss.needs() == LossNeeds::labels || term.loss.needs() == LossNeeds::sampled_tokens;
  });
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
