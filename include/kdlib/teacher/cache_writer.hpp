// SPDX-License-Identifier: Apache-2.0
// Writes a teacher's cache: a folder of segment files (safetensors or HDF5). Each file is either complete or absent.
// Several processes may fill the folder together, and a killed process can be started again to make what is missing.
#ifndef KDLIB_TEACHER_CACHE_WRITER_HPP
#define KDLIB_TEACHER_CACHE_WRITER_HPP

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "kdlib/core/dtype.hpp"
#include "kdlib/teacher/cache_settings.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// Appends `count` values, converted to the type of a column.
template <class Stored, class T>
void append_values(std::vector<std::byte>& out, const T* values, std::int64_t count) {
  const std::size_t before = out.size();
  out.resize(before + static_cast<std::size_t>(count) * sizeof(Stored));
  for (std::int64_t i = 0; i < count; ++i) {
    const Stored value(values[i]);
    std::memcpy(out.data() + before + static_cast<std::size_t>(i) * sizeof value, &value, sizeof value);
  }
}
template <class T>
void append_values(std::vector<std::byte>& out, DType dtype, const T* values, std::int64_t count) {
  if (dtype == DType::bf16) return append_values<bf16>(out, values, count);
  if (dtype == DType::f16) return append_values<f16>(out, values, count);
  append_values<float>(out, values, count);
}

}  // namespace detail

/// A tensor that every segment holds: [R, width] for the R rows of the segment, or [R] if `width` is 0.
struct CacheColumn {
  std::string name;
  DType dtype = DType::f32;
  std::int64_t width = 0;

  std::int64_t row_bytes() const;
};
/// Returns the columns of a cache by its kind. Kind hidden: "hidden" [R, H]. Kind logprobs: "values"
/// (log-probabilities) and "indices" (token ids) [R, K], "log_norm" and "tail_logmass" [R, temperatures],
/// "label_logprob" [R]; see TopKRow.
std::vector<CacheColumn> cache_columns(const CacheMeta& meta);

/// Writes the folder of a cache. The folder holds meta.json (CacheMeta), head.safetensors (kind hidden only) and
/// segments/<worker>_<segment>.safetensors (or .h5). A segment of n documents with P tokens and R rows holds offsets
/// [n+1], token_ids [P], row_offsets [n+1], row_positions [R] (place of the row's token in its document), weights [R],
/// ordinals [n] (number of the document) and the columns of cache_columns(). Every file becomes visible only when it is
/// complete (AtomicFile). The finished folder is the same, byte for byte, however often the work was interrupted.
class CacheWriter {
 public:
  /// Makes the folder, or continues the cache that the folder holds. `documents` is borrowed and must outlive the
  /// writer. SettingsError, with both values: the cache in the folder has other settings, another teacher or another
  /// text. ConfigError: the folder holds files that belong to no cache, a setting does not fit, or no row of the text
  /// counts.
  CacheWriter(std::string folder, CacheFacts facts, CacheSettings settings, const TokenBatch& documents);
  CacheWriter(std::string, CacheFacts, CacheSettings, const TokenBatch&&) = delete;

  const CacheMeta& meta() const { return meta_; }
  const std::string& folder() const { return folder_; }
  const TokenBatch& documents() const { return documents_; }
  /// Sentences about segments that open_segments() found damaged or of another run. Such segments are made again.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Returns the segments of a worker that are still to be written, in order.
  std::vector<std::int64_t> open_segments(std::int64_t worker);
  /// Returns the documents of a segment, in the order of work.
  std::vector<std::int64_t> documents_of(std::int64_t worker, std::int64_t segment) const;
  /// Returns the documents of a segment as batches of CacheSettings::batch documents; the last batch may be smaller.
  std::vector<TokenBatch> batches_of(std::int64_t worker, std::int64_t segment) const;

  /// Writes one segment. `columns` holds, for each column of cache_columns(), the bytes of all rows. ShapeError: the
  /// number of columns or of bytes does not fit.
  void write_segment(std::int64_t worker, std::int64_t segment, const std::vector<std::vector<std::byte>>& columns);

  /// Completes meta.json and returns true if the segments of all workers exist; returns false otherwise.
  bool finish();

 private:
  void adopt_or_begin();
  bool segment_is_there(std::int64_t worker, std::int64_t segment);
  std::string path(const std::string& name) const;
  std::string segment_file(std::int64_t worker, std::int64_t segment) const {
    return segment_name(worker, segment, meta_.settings.container);
  }

  std::string folder_;
  const TokenBatch& documents_;
  CacheMeta meta_;
  std::vector<std::int64_t> order_;           // number of the document at each place of the order of work
  std::vector<std::string> notes_, written_;  // written_: segments that this object wrote
};

namespace detail {
DType store_dtype(CacheStore store);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_writer_inl.hpp"
#endif

#endif
