// SPDX-License-Identifier: Apache-2.0
// Asks the teacher again and compares its answer with what a cache holds.
#ifndef KDLIB_TEACHER_COMPARE_CACHE_HPP
#define KDLIB_TEACHER_COMPARE_CACHE_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/teacher/cache_rows.hpp"
#include "kdlib/teacher/write_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// The result of a comparison, over all compared hidden states or log-probabilities.
struct CacheComparison {
  std::int64_t documents = 0;
  double difference = 0, largest = 0;  // the largest difference, and the largest cached magnitude
};

/// Asks the teacher again about `count` documents, spread evenly over the cache. The documents are asked one at a time,
/// so that the rounding of matrix products may differ from that in the cache. `append_columns(document, meta, columns)`
/// must append the teacher's columns for one document. ConfigError: a value differs by more than 2 % of the largest
/// magnitude, that is, the cache belongs to another teacher.
template <class F>
CacheComparison compare_cache_rows(const TeacherCache& cache, std::int64_t count, F&& append_columns) {
  const CacheMeta& meta = cache.meta();
  const bool hidden = meta.settings.kind == CacheKind::hidden;
  const CacheColumn column = cache_columns(meta).front();
  const TokenBatch tokens = cache.tokens();
  CacheComparison out;
  out.documents = std::min(count, tokens.documents());
  for (std::int64_t i = 0; i < out.documents; ++i) {
    const TokenBatch one = tokens.document(i * tokens.documents() / out.documents);
    std::vector<std::vector<std::byte>> columns(cache_columns(meta).size());
    append_columns(one, meta, columns);
    TensorInfo again;
    again.dtype = column.dtype;
    again.data = columns.front();
    std::vector<float> cached;
    const auto places = cache.find_rows(one);
    read_cached_rows(cache, column.name.c_str(), column.width, places, cached);
    std::vector<float> now(cached.size());
    detail::read_values(again, 0, static_cast<std::int64_t>(now.size()), now.data());
    for (std::size_t k = 0; k < now.size(); ++k) {
      out.difference = std::max(out.difference, std::abs(static_cast<double>(now[k]) - static_cast<double>(cached[k])));
      out.largest = std::max(out.largest, std::abs(static_cast<double>(cached[k])));
    }
  }
  require<ConfigError>(out.difference <= 0.02 * out.largest, "[teacher cache] ", cache.folder(), ": ",
                       hidden ? "hidden states" : "log-probabilities", " of this teacher differ by up to ",
                       out.difference, " of ", out.largest, ": the cache was made by another one");
  return out;
}

/// Does the same with `model` as the teacher.
template <class M>
CacheComparison compare_with_teacher(M& model, const TeacherCache& cache, std::int64_t count) {
  LiveTeacher<M> teacher{model};
  detail::LogitChunks<typename M::scalar_type, typename M::device_type> logits;
  return compare_cache_rows(cache, count, [&](const TokenBatch& one, const CacheMeta& meta, auto& columns) {
    detail::append_batch(teacher, one, meta, std::int64_t{64} << 20, logits, columns);
  });
}

KDLIB_NAMESPACE_END

#endif
