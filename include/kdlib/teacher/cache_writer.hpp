// SPDX-License-Identifier: Apache-2.0
// Writes a teacher's cache: a folder of segments (safetensors or HDF5), each whole or not there, that several processes
// may fill and that a killed one goes on with.
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

/// Appends values in the type of a column.
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

/// A tensor of every segment with one line for each row: [R, width], or [R] where width is 0.
struct CacheColumn {
  std::string name;
  DType dtype = DType::f32;
  std::int64_t width = 0;

  std::int64_t row_bytes() const;
};
/// hidden: "hidden" [R, H]. logprobs: "values" and "indices" [R, K], "log_norm" and "tail_logmass" [R, temperatures],
/// "label_logprob" [R].
std::vector<CacheColumn> cache_columns(const CacheMeta& meta);

/// The folder: meta.json (CacheMeta), head.safetensors (kind hidden), segments/<worker>_<segment>.safetensors (or .h5)
/// with offsets [n+1], token_ids [P], row_offsets [n+1], row_positions [R] (place of the row's token in its document),
/// weights [R], ordinals [n] (number of the document) and the columns. Every file appears at once (AtomicFile). The
/// finished folder is the same, byte for byte, however often its making was cut short.
class CacheWriter {
 public:
  /// Makes the folder or goes on in it. `documents` is borrowed. SettingsError, with both values: the folder's cache
  /// has other settings, another teacher or other text. ConfigError: a folder with files of something else; no row
  /// counts.
  CacheWriter(std::string folder, CacheFacts facts, CacheSettings settings, const TokenBatch& documents);
  CacheWriter(std::string, CacheFacts, CacheSettings, const TokenBatch&&) = delete;

  const CacheMeta& meta() const { return meta_; }
  const std::string& folder() const { return folder_; }
  const TokenBatch& documents() const { return documents_; }
  /// What was found that is not as it should be: damaged segments, which are made again.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Segments of a worker that are not there yet, in order.
  std::vector<std::int64_t> open_segments(std::int64_t worker);
  /// Documents of a segment, in the order of working.
  std::vector<std::int64_t> documents_of(std::int64_t worker, std::int64_t segment) const;
  /// Those documents as batches of CacheSettings::batch.
  std::vector<TokenBatch> batches_of(std::int64_t worker, std::int64_t segment) const;

  /// Writes one segment: for each column of cache_columns() the bytes of its rows. ShapeError: they do not fit.
  void write_segment(std::int64_t worker, std::int64_t segment, const std::vector<std::vector<std::byte>>& columns);

  /// Where the segments of all workers are there: completes meta.json and answers true.
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
  std::vector<std::int64_t> order_;           // document at each place
  std::vector<std::string> notes_, written_;  // written_: segments of this object
};

namespace detail {
DType store_dtype(CacheStore store);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_writer_inl.hpp"
#endif

#endif
