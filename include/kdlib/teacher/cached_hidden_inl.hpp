// SPDX-License-Identifier: Apache-2.0
// Bodies of cached_hidden.hpp.
#ifndef KDLIB_TEACHER_CACHED_HIDDEN_INL_HPP
#define KDLIB_TEACHER_CACHED_HIDDEN_INL_HPP

#include "kdlib/teacher/cache_rows.hpp"
#include "kdlib/teacher/cached_hidden.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
CachedHiddenTeacher<D, T>::CachedHiddenTeacher(const TeacherCache& cache) : cache_(&cache) {
  const CacheMeta& meta = cache.meta();
  require<ConfigError>(meta.settings.kind == CacheKind::hidden, "[CachedHiddenTeacher] ", cache.folder(),
                       "/meta.json: kind is \"", setting_text(meta.settings.kind),
                       "\", hidden is needed; CachedTeacher reads the other one");
  head_ = read_cache_head<T, D>(join_path(cache.folder(), "head.safetensors"), meta.facts.vocabulary,
                                meta.facts.hidden_size);
  head_.real_vocabulary = meta.facts.real_vocabulary;
}

template <class D, class T>
CachedHiddenTeacher<D, T>& CachedHiddenTeacher<D, T>::operator=(const CachedHiddenTeacher& other) {
  cache_ = other.cache_;
  head_ = other.head_;
  hidden_.reset();
  rows_ = 0;
  return *this;
}

template <class D, class T>
void CachedHiddenTeacher<D, T>::prepare(const TokenBatch& batch) {
  const std::vector<TeacherCache::Place> places = cache_->find_rows(batch);
  const std::int64_t width = cache_->meta().facts.hidden_size;
  rows_ = static_cast<std::int64_t>(places.size());
  if (rows_ == 0) return;
  if (!hidden_ || hidden_[0] < rows_) {
    hidden_.reset();
    hidden_ = Tensor<T, D>(Shape{rows_, width});
  }
  std::vector<T> host;
  read_cached_rows(*cache_, "hidden", width, places, host);
  Memory<D>::from_host(hidden_.data(), host.data(), host.size() * sizeof(T));
}

template <class D, class T>
typename CachedHiddenTeacher<D, T>::targets_type CachedHiddenTeacher<D, T>::targets(std::int64_t begin,
                                                                                    std::int64_t count) const {
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[CachedHiddenTeacher] rows ", begin, " to ",
                      begin + count, " of ", rows_, ": prepare(batch) comes first, targets stay within its rows");
  if (!hidden_) return {View<const T, D>(nullptr, Shape{0, cache_->meta().facts.hidden_size}), head_.view()};
  return {View<const T, D>(hidden_.data(), hidden_.shape()).rows(begin, count), head_.view()};
}

template <class D, class T>
SettingsList CachedHiddenTeacher<D, T>::describe() const {
  return {{"teacher", "cached hidden states"},
          {"teacher.vocabulary", setting_text(vocab_size())},
          {"teacher.cache", cache_->meta().run_hash()}};
}

KDLIB_NAMESPACE_END

#endif
