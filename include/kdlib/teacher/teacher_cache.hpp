// SPDX-License-Identifier: Apache-2.0
// Reads a teacher's cache: which text it holds, and where the rows of given documents stand.
#ifndef KDLIB_TEACHER_TEACHER_CACHE_HPP
#define KDLIB_TEACHER_TEACHER_CACHE_HPP

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kdlib/teacher/cache_segment.hpp"
#include "kdlib/teacher/cache_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a run needs of a cache, compared with its meta.json. Empty texts and zeros are not compared.
struct CacheUse {
  std::string tokenizer{};          // of the student: Tokenizer::content_hash in 16 hexadecimal digits
  std::int64_t vocabulary = 0;      // rows of the student's head: compared where one side has no tokenizer
  std::string teacher_hash{};       // content_hash of the teacher that is meant
  std::int64_t context_length = 0;  // tokens that the student can read
};

/// A complete cache, opened for reading. Documents are found by their ids alone: order, batches and what else is in a
/// batch do not matter. A document that is the beginning of a cached one is found in it, because rows depend on the
/// tokens before them alone. Memory: 4 bytes a token and a row; segments are mapped, those of HDF5 read into memory, 16
/// at a time. For one thread.
class TeacherCache {
 public:
  /// IoError, FormatError or ConfigError, each naming file, key and both values: no cache, other format or version, not
  /// complete, a segment that is missing or of another run, a document that is missing or there twice, shapes, offsets
  /// that do not ascend, ids outside the vocabulary.
  explicit TeacherCache(std::string folder);

  const CacheMeta& meta() const { return meta_; }
  const std::string& folder() const { return folder_; }
  std::int64_t documents() const { return static_cast<std::int64_t>(documents_.size()); }

  /// All documents with their weights, in the order of the data they were made from.
  TokenBatch tokens() const;

  /// ConfigError naming meta.json, the key and both values where the cache does not fit.
  void check(const CacheUse& use) const;

  /// Where a row stands: number of the segment, row in it.
  struct Place {
    std::int32_t segment = 0;
    std::int64_t row = 0;
  };
  /// The place of each row of batch.rows(), in that order. InputError for a document that the cache does not hold, that
  /// goes on behind the end of the cached one, that was cut out of the middle of one (its rows were made behind a
  /// longer context), for positions of the batch's own, and for a row that did not count when the cache was made.
  std::vector<Place> find_rows(const TokenBatch& batch) const;
  /// Whether find_rows would find every row.
  bool holds(const TokenBatch& batch) const;

  /// A tensor of a segment. Its bytes live until many other segments have been asked for: copy at once.
  const TensorInfo& column(std::int32_t segment, const char* name) const;
  /// "segments/000_000012.safetensors: row 3 (text 17, token 5)", for messages.
  std::string place_text(const Place& place) const;

  /// FormatError naming the first file whose bytes are not those that were written.
  void verify() const;

 private:
  struct Document {
    std::int64_t begin = 0, rows_begin = 0;  // in ids_ and row_positions_
    std::int32_t length = 0, rows = 0;
    std::int32_t segment = -1;  // -1: not found in any segment
    std::int64_t row = 0;       // first row in the segment
  };

  void open_segment(std::int32_t segment);
  const CacheSegment& file(std::int32_t segment) const;
  std::string path(std::int32_t segment) const;
  std::span<const std::int32_t> ids_of(const Document& d) const;
  /// Cached documents that begin with `ids`, in lexicographic order.
  std::span<const std::int32_t> beginning_with(std::span<const std::int32_t> ids) const;
  /// The places of a document's rows; false, with `out` as it was, where no cached document has them.
  bool append_rows(const TokenBatch& batch, std::int64_t b, std::vector<Place>& out) const;
  bool append_places(const Document& d, std::span<const std::int32_t> wanted, std::vector<Place>& out) const;
  [[noreturn]] void refuse_document(const TokenBatch& batch, std::int64_t b) const;

  std::string folder_;
  CacheMeta meta_;
  std::vector<std::string> names_;                            // of the segments
  mutable std::vector<std::unique_ptr<CacheSegment>> files_;  // mapped or in memory, or null
  mutable std::vector<std::int32_t> mapped_;                  // in the order of mapping
  std::vector<std::int32_t> ids_, row_positions_;
  std::vector<Document> documents_;   // by ordinal
  std::vector<std::int32_t> sorted_;  // ordinals in lexicographic order of their ids
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/teacher_cache_inl.hpp"
#endif

#endif
