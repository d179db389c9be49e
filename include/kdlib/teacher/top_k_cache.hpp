// SPDX-License-Identifier: Apache-2.0
// A teacher's top-k log-probabilities on disk: a cache of kind logprobs (cache_settings.hpp).
#ifndef KDLIB_TEACHER_TOP_K_CACHE_HPP
#define KDLIB_TEACHER_TOP_K_CACHE_HPP

#include <string>
#include <vector>

#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// A top-k cache holds documents and, for each of their rows, the teacher's K most probable next tokens, the
/// log-probabilities of these tokens and, for each temperature of the cache, the probability mass of all other tokens.
class TopKCache {
 public:
  /// Opens a folder that cache_logits (or CacheWriter) made. Errors as in the constructor of TeacherCache. ConfigError:
  /// the cache is of another kind.
  static TopKCache open(const std::string& path);

  const TokenBatch& tokens() const { return tokens_; }
  std::int64_t top_k() const { return cache_.meta().settings.top_k; }
  std::int64_t vocab_size() const { return cache_.meta().facts.vocabulary; }
  /// The temperatures for which the mass of the tail (all tokens outside the K) is known.
  const std::vector<double>& temperatures() const { return cache_.meta().settings.temperatures; }
  const std::string& path() const { return cache_.folder(); }
  const TeacherCache& files() const { return cache_; }

 private:
  explicit TopKCache(const std::string& path) : cache_(path) {}

  TeacherCache cache_;
  TokenBatch tokens_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/top_k_cache_inl.hpp"
#endif

#endif
