// SPDX-License-Identifier: Apache-2.0
// A teacher read from a top-k cache. Not built yet: prepare() refuses and says so (TopKCache::open does before).
#ifndef KDLIB_TEACHER_CACHED_HPP
#define KDLIB_TEACHER_CACHED_HPP

#include "kdlib/loss/top_k.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/top_k_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource of the cached rows of documents, found by their content. The cache is borrowed; temporaries are
/// refused.
template <class D, class T = float>
class CachedTeacher {
 public:
  using targets_type = TopKTargets<T, D>;

  explicit CachedTeacher(const TopKCache& cache) : cache_(&cache) {}
  CachedTeacher(const TopKCache&& cache) = delete;

  std::int64_t vocab_size() const { return cache_->vocab_size(); }
  void prepare(const TokenBatch&) { not_built(); }
  targets_type targets(std::int64_t, std::int64_t) const { not_built(); }

 private:
  [[noreturn]] void not_built() const {
    fail<Error>("[CachedTeacher] ", cache_->path(),
                ": the on-disk top-k cache is not built yet in this version; use LiveTeacher");
  }
  const TopKCache* cache_;
};

KDLIB_NAMESPACE_END

#endif
