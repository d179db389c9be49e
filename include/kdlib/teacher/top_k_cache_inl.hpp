// SPDX-License-Identifier: Apache-2.0
// Bodies of top_k_cache.hpp.
#ifndef KDLIB_TEACHER_TOP_K_CACHE_INL_HPP
#define KDLIB_TEACHER_TOP_K_CACHE_INL_HPP

#include "kdlib/teacher/top_k_cache.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC TopKCache TopKCache::open(const std::string& path) {
  TopKCache out(path);
  const CacheKind kind = out.cache_.meta().settings.kind;
  require<ConfigError>(kind == CacheKind::logprobs, "[TopKCache] ", path, "/meta.json: kind is \"", setting_text(kind),
                       "\", logprobs is needed; CachedHiddenTeacher reads the other one");
  out.tokens_ = out.cache_.tokens();
  return out;
}

KDLIB_NAMESPACE_END

#endif
