// SPDX-License-Identifier: Apache-2.0
// Runs a teacher over the text of a cache and writes what is missing of it.
#ifndef KDLIB_TEACHER_WRITE_CACHE_HPP
#define KDLIB_TEACHER_WRITE_CACHE_HPP

#include <functional>

#include "kdlib/teacher/cache_writer.hpp"
#include "kdlib/teacher/live.hpp"

KDLIB_NAMESPACE_BEGIN

/// After each batch.
struct CacheProgress {
  std::int64_t documents = 0, done = 0;  // of this call: segments that were there are not counted
  std::int64_t tokens = 0;               // run through the teacher
  std::int64_t rows = 0;                 // kept
  std::int64_t bytes = 0;                // of the kept rows
  double seconds = 0;
};
using CacheObserver = std::function<void(const CacheProgress&)>;

/// How write_teacher_cache runs.
struct WriteCacheSettings {
  std::int64_t workspace_bytes = std::int64_t{256} << 20;  // for chunks of logits, of kind logprobs
  CacheObserver progress{};
};

/// Facts that the model itself tells: sizes and scalar type.
template <class M>
CacheFacts facts_of(const M& model);

/// Writes the open segments of one worker and, where that completes the cache, meta.json. Error naming the
/// document where the teacher gives NaN or an infinity. What it throws, or a kill, leaves whole segments only.
template <class M>
CacheProgress write_teacher_cache(M& model, CacheWriter& writer, std::int64_t worker = 0,
                                  const WriteCacheSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/teacher/write_cache_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/large_pages_inl.hpp"
#endif

#endif
