// SPDX-License-Identifier: Apache-2.0
// Several caches of one teacher as one: the parts of many workers in the order of the text, or caches of several texts.
#ifndef KDLIB_TEACHER_MERGE_CACHE_HPP
#define KDLIB_TEACHER_MERGE_CACHE_HPP

#include <string>
#include <vector>

#include "kdlib/teacher/teacher_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// Writes the documents of complete caches, one cache after the other, each in the order of its text, as a cache of one
/// worker with files of `segment` documents (0: as the first cache has them). What one worker would have written of the
/// same text is written, byte for byte. A killed merge is gone on with. The caches stay as they are.
/// ConfigError naming meta.json, the key and both values: another kind, store, top_k, temperatures, teacher, tokenizer,
/// vocabulary or scalar type; `out` is one of the caches. Errors as TeacherCache and CacheWriter throw them.
CacheMeta merge_teacher_caches(const std::vector<std::string>& folders, const std::string& out,
                               std::int64_t segment = 0);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/merge_cache_inl.hpp"
#endif

#endif
