// SPDX-License-Identifier: Apache-2.0
// What a session does that knows nothing of devices: an opened cache, and words for the report.
#ifndef KDLIB_RECIPE_SESSION_PARTS_HPP
#define KDLIB_RECIPE_SESSION_PARTS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/data/text_lines.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/teacher/teacher_cache.hpp"
#include "kdlib/teacher/top_k_cache.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// A cache of either kind.
struct OpenedCache {
  std::optional<TeacherCache> hidden{};
  std::optional<TopKCache> top_k{};

  static OpenedCache open(const std::string& folder);
  const TeacherCache& files() const { return top_k ? top_k->files() : *hidden; }
};

/// The tokenizer that cache_logits has put beside a cache, if there is one.
std::optional<Tokenizer> tokenizer_of_cache(const TeacherCache& cache);
/// "models/teacher, from hidden states in cache/": for notes and reports.
std::string cache_text(const TeacherCache& cache);
/// The documents of a cache as lines of given text.
std::vector<TextLine> lines_of(const TeacherCache& cache);

/// What a run trains and what it will leave behind.
std::string trained_text(const RecipeStudent& s);
std::string mebibytes_text(std::int64_t bytes);
/// The terms read at most the teacher's log-probabilities of the tokens themselves.
bool reads_tokens_alone(const LossExpression& loss);

}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/session_parts_inl.hpp"
#endif

#endif
