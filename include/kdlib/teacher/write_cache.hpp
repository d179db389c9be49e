// SPDX-License-Identifier: Apache-2.0
// Runs a teacher over the text of a cache and writes the segments that the cache lacks.
#ifndef KDLIB_TEACHER_WRITE_CACHE_HPP
#define KDLIB_TEACHER_WRITE_CACHE_HPP

#include <functional>

#include "kdlib/teacher/cache_writer.hpp"
#include "kdlib/teacher/live.hpp"

KDLIB_NAMESPACE_BEGIN

/// The state of the work after each batch.
struct CacheProgress {
  std::int64_t documents = 0, done = 0;  // of this call; segments that existed before do not count
  std::int64_t tokens = 0;               // tokens that ran through the teacher
  std::int64_t rows = 0;                 // rows that were kept
  std::int64_t bytes = 0;                // of the kept rows
  double seconds = 0;
};
using CacheObserver = std::function<void(const CacheProgress&)>;

/// Settings of write_teacher_cache.
struct WriteCacheSettings {
  std::int64_t workspace_bytes = std::int64_t{256} << 20;  // bytes for chunks of logits; kind logprobs only
  CacheObserver progress{};
};

/// Returns the facts that the model itself tells: vocabulary, hidden size and scalar type.
template <class M>
CacheFacts facts_of(const M& model);

/// Writes the missing segments of one worker (numbered from 0) and completes meta.json if no segment of any worker is
/// missing after that. Error names the document if the teacher gives NaN or an infinity. An error or a killed process
/// leaves only complete segments.
template <class M>
CacheProgress write_teacher_cache(M& model, CacheWriter& writer, std::int64_t worker = 0,
                                  const WriteCacheSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/teacher/write_cache_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/large_pages_inl.hpp"
#endif

#endif
