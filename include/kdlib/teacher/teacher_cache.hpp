// SPDX-License-Identifier: Apache-2.0
// Reads a teacher's cache: tells which text the cache holds, and finds the rows of given documents.
#ifndef KDLIB_TEACHER_TEACHER_CACHE_HPP
#define KDLIB_TEACHER_TEACHER_CACHE_HPP

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kdlib/teacher/cache_segment.hpp"
#include "kdlib/teacher/cache_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a run needs of a cache; TeacherCache::check() compares it with meta.json. Empty texts and zeros are not
/// compared.
struct CacheUse {
  std::string tokenizer{};          // the student's: Tokenizer::content_hash in 16 hexadecimal digits
  std::int64_t vocabulary = 0;      // rows of the student's head; compared only if one side has no tokenizer
  std::string teacher_hash{};       // content_hash of the teacher that the run names
  std::int64_t context_length = 0;  // tokens that the student can read
};

/// A complete cache that is open for reading. Documents are found by their ids alone; their order and the other
/// documents of a batch do not matter. A document that is the beginning of a cached document is found in that document,
/// because a row depends only on the tokens before it. Memory: 4 bytes for each token and for each row. Segments in
/// safetensors are mapped; of segments in HDF5 at most 16 are in memory at a time. One object serves one thread.
class TeacherCache {
 public:
  /// Opens and checks the cache in `folder`. IoError, FormatError or ConfigError name file, key and both values: the
  /// folder holds no cache, the format or version is another one, the cache is not complete, a segment is missing or
  /// belongs to another run, a document is missing or comes twice, a shape is wrong, offsets do not ascend, or an id is
  /// outside the vocabulary.
  explicit TeacherCache(std::string folder);

  const CacheMeta& meta() const { return meta_; }
  const std::string& folder() const { return folder_; }
  std::int64_t documents() const { return static_cast<std::int64_t>(documents_.size()); }

  /// Returns all documents with their weights, in the order of the data that they were made from.
  TokenBatch tokens() const;

  /// Throws ConfigError, naming meta.json, the key and both values, if the cache does not fit `use`.
  void check(const CacheUse& use) const;

  /// Where a row is stored: the number of the segment and the row within this segment.
  struct Place {
    std::int32_t segment = 0;
    std::int64_t row = 0;
  };
  /// Returns the place of each row of batch.rows(), in the same order. InputError: the cache does not hold a document;
  /// a document is longer than the cached one; a document was cut out of the middle of a cached one (whose rows depend
  /// on the tokens before); the batch has positions other than 0, 1, 2, ...; or a row did not count when the cache was
  /// made.
  std::vector<Place> find_rows(const TokenBatch& batch) const;
  /// True if the cache holds every row of the batch.
  bool holds(const TokenBatch& batch) const;

  /// Returns a tensor of a segment. Copy its bytes at once: they become invalid after calls for many other segments.
  const TensorInfo& column(std::int32_t segment, const char* name) const;
  /// Returns a place as text for messages: "FOLDER/segments/000_000012.safetensors: row 3 (text 17, token 5)".
  std::string place_text(const Place& place) const;

  /// Compares all files with their checksums. FormatError names the first file that has changed.
  void verify() const;

 private:
  struct Document {
    std::int64_t begin = 0, rows_begin = 0;  // where the document begins in ids_ and in row_positions_
    std::int32_t length = 0, rows = 0;
    std::int32_t segment = -1;  // -1: no segment holds the document
    std::int64_t row = 0;       // the document's first row within the segment
  };

  void open_segment(std::int32_t segment);
  const CacheSegment& file(std::int32_t segment) const;
  std::string path(std::int32_t segment) const;
  std::span<const std::int32_t> ids_of(const Document& d) const;
  /// Returns the numbers of the cached documents that begin with `ids`, in lexicographic order.
  std::span<const std::int32_t> beginning_with(std::span<const std::int32_t> ids) const;
  /// Appends the places of the rows of document b. Returns false, with `out` unchanged, if no cached document has these
  /// rows.
  bool append_rows(const TokenBatch& batch, std::int64_t b, std::vector<Place>& out) const;
  bool append_places(const Document& d, std::span<const std::int32_t> wanted, std::vector<Place>& out) const;
  [[noreturn]] void refuse_document(const TokenBatch& batch, std::int64_t b) const;

  std::string folder_;
  CacheMeta meta_;
  std::vector<std::string> names_;                            // file names of the segments
  mutable std::vector<std::unique_ptr<CacheSegment>> files_;  // mapped or in memory; null: closed
  mutable std::vector<std::int32_t> mapped_;                  // open segments, in the order in which they were opened
  std::vector<std::int32_t> ids_, row_positions_;
  std::vector<Document> documents_;   // by the document's number in the text
  std::vector<std::int32_t> sorted_;  // numbers of the documents in lexicographic order of their ids
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/teacher_cache_inl.hpp"
#endif

#endif
