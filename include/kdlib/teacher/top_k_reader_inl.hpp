// SPDX-License-Identifier: Apache-2.0
// Bodies of cached.hpp that do not depend on a device: what is read of a cache, and checks of its rows.
#ifndef KDLIB_TEACHER_TOP_K_READER_INL_HPP
#define KDLIB_TEACHER_TOP_K_READER_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/teacher/cached.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC CachedChoice choose_cached(const TopKCache& cache, const CachedTeacherSettings& settings) {
  CachedChoice out;
  const std::vector<double>& known = cache.temperatures();
  const std::string list = detail::temperatures_text(known), file = cache.path() + "/meta.json";
  require<ConfigError>(settings.temperature != 0 || known.size() == 1, "[CachedTeacher] ", file, ": temperatures are ",
                       list, ": say which one the loss has");
  out.temperature = settings.temperature != 0 ? settings.temperature : known.front();
  const auto at = std::find(known.begin(), known.end(), out.temperature);
  require<ConfigError>(at != known.end(), "[CachedTeacher] ", file, ": temperatures are ", list, ", the loss has ",
                       out.temperature, ": a softmax at another temperature cannot be made from ", cache.top_k(),
                       " tokens; cache again with --temperatures");
  out.place = at - known.begin();
  out.top_k = settings.top_k > 0 ? settings.top_k : cache.top_k();
  require<ConfigError>(settings.top_k >= 0 && out.top_k <= cache.top_k(), "[CachedTeacher] ", file, ": top_k is ",
                       cache.top_k(), ", ", settings.top_k, " tokens are asked for");
  require<ConfigError>(settings.real_vocabulary >= 0, "[CachedTeacher] real_vocabulary is ", settings.real_vocabulary,
                       "; it must be 0 or more");
  const bool cut = settings.real_vocabulary > 0 && settings.real_vocabulary < cache.files().meta().facts.columns();
  out.real_vocabulary = cut ? settings.real_vocabulary : 0;
  return out;
}

KDLIB_FUNC TopKReader::TopKReader(const TeacherCache& cache, std::int64_t temperature, std::int64_t top_k,
                                  std::int64_t real_vocabulary)
    : cache_(cache),
      temperature_(cache.meta().settings.temperatures[static_cast<std::size_t>(temperature)]),
      place_(temperature),
      all_(cache.meta().settings.top_k),
      temperatures_(static_cast<std::int64_t>(cache.meta().settings.temperatures.size())),
      used_(top_k),
      ids_(real_vocabulary > 0 ? real_vocabulary : cache.meta().facts.columns()),
      slack_(cache.meta().settings.store == CacheStore::f16 ? 5e-3 : 1e-3),
      values_(static_cast<std::size_t>(all_)),
      all_ids_(static_cast<std::size_t>(all_)) {}

KDLIB_FUNC void TopKReader::open(std::int32_t segment) {
  segment_ = segment;
  values_info_ = &cache_.column(segment, "values");
  ids_info_ = &cache_.column(segment, "indices");
  norm_info_ = &cache_.column(segment, "log_norm");
  tail_info_ = &cache_.column(segment, "tail_logmass");
}

KDLIB_FUNC void TopKReader::check_ids(const TeacherCache::Place& at) {
  sorted_ = all_ids_;
  std::sort(sorted_.begin(), sorted_.end());
  require(at, sorted_.front() >= 0 && sorted_.back() < cache_.meta().facts.columns(), "indices reach from ",
          sorted_.front(), " to ", sorted_.back(), ", the vocabulary has ", cache_.meta().facts.columns());
  const auto twice = std::adjacent_find(sorted_.begin(), sorted_.end());
  require(at, twice == sorted_.end(), "indices holds a token twice");
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
