// SPDX-License-Identifier: Apache-2.0
// Merges several caches of one teacher into one: the parts of many workers, put into the order of the text, or caches
// of several texts.
#ifndef KDLIB_TEACHER_MERGE_CACHE_HPP
#define KDLIB_TEACHER_MERGE_CACHE_HPP

#include <string>
#include <vector>

#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// Writes the documents of complete caches, one cache after the other and each cache in the order of its text, as a
/// cache of one worker into the folder `out`. `segment` is the number of documents in a file; 0 takes the number of the
/// first cache. The result is equal, byte for byte, to what one worker would have written for the same text. If a merge
/// was killed, the same call continues it. The merged caches are not changed. ConfigError names meta.json, the key and
/// both values if the caches differ in kind, store, top_k, temperatures, teacher, tokenizer, vocabulary, hidden size or
/// scalar type; it is also thrown if `out` is one of the caches. TeacherCache and CacheWriter throw their own errors.
CacheMeta merge_teacher_caches(const std::vector<std::string>& folders, const std::string& out,
                               std::int64_t segment = 0);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/merge_cache_inl.hpp"
#endif

#endif
