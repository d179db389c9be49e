// SPDX-License-Identifier: Apache-2.0
// Parts of a session that do not depend on the device: an opened cache, and words for the report.
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

/// A teacher's cache of either kind: hidden states or top-k.
struct OpenedCache {
  std::optional<TeacherCache> hidden{};
  std::optional<TopKCache> top_k{};

  static OpenedCache open(const std::string& folder);
  const TeacherCache& files() const { return top_k ? top_k->files() : *hidden; }
};

/// Returns the tokenizer that cache_logits has put beside a cache, if there is one. Throws FormatError if it is another
/// one than the cache was made with.
std::optional<Tokenizer> tokenizer_of_cache(const TeacherCache& cache);
/// Describes a cache for notes and reports: "models/teacher, from hidden states in cache/".
std::string cache_text(const TeacherCache& cache);
/// Returns the documents of a cache as lines of given text.
std::vector<TextLine> lines_of(const TeacherCache& cache);

/// Says what a run trains and which files it will leave.
std::string trained_text(const RecipeStudent& s);
/// Returns a number of MiB with one digit behind the point.
std::string mebibytes_text(std::int64_t bytes);
/// True if the terms read no more of the teacher than its log-probabilities of the tokens themselves.
bool reads_tokens_alone(const LossExpression& loss);

}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/session_parts_inl.hpp"
#endif

#endif
