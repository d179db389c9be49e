// SPDX-License-Identifier: Apache-2.0
// The description of a teacher's cache on disk: which signal it holds, of which teacher, for which text. The file
// meta.json of the cache holds this description.
#ifndef KDLIB_TEACHER_CACHE_SETTINGS_HPP
#define KDLIB_TEACHER_CACHE_SETTINGS_HPP

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a cache keeps for each row that counts (each token whose next token has a weight above 0).
enum class CacheKind : std::uint8_t {
  hidden,   // the hidden state behind the final norm, and the head once: allows losses over the whole vocabulary
  logprobs  // the K most probable tokens, and the exact probability mass of all others: allows losses on the teacher's
            // top-k
};
constexpr std::array<const char*, 2> enum_names(CacheKind) { return {"hidden", "logprobs"}; }

/// The scalar type of hidden states (f32, bf16) or log-probabilities (f32, f16) in the files.
enum class CacheStore : std::uint8_t { f32, bf16, f16 };
constexpr std::array<const char*, 3> enum_names(CacheStore) { return {"f32", "bf16", "f16"}; }

/// The file format of a cache.
enum class CacheContainer : std::uint8_t {
  safetensors,  // mapped while it is read
  hdf5          // compressed, read into memory; the program links the component hdf5 (kdlib/hdf5.hpp)
};
constexpr std::array<const char*, 2> enum_names(CacheContainer) { return {"safetensors", "hdf5"}; }

/// How a cache is made. Every setting changes the bytes of the files and is part of CacheMeta::run_hash().
struct CacheSettings {
  CacheKind kind = CacheKind::logprobs;
  CacheStore store = CacheStore::f32;
  std::int64_t top_k = 64;              // tokens kept of each row, >= 1; kind logprobs only
  std::vector<double> temperatures{1};  // 1 to 16 values, ascending, each > 0; kind logprobs only: the temperatures at
                                        // which the mass outside the K tokens is kept exactly
  std::int64_t batch = 8;               // documents in one forward pass, >= 1
  std::int64_t segment = 256;           // documents in one file, >= 1
  /// W, from 1 to 1000: the number of processes that share the documents. Worker w takes the places n with n mod W = w.
  std::int64_t workers = 1;
  /// True: the documents are taken in the order that DocumentDataset has in its first epoch with `seed`.
  bool shuffled = false;
  std::uint64_t seed = 1;  // of the order if `shuffled` is true
  CacheContainer container = CacheContainer::safetensors;
  int gzip = 4;  // level of compression for HDF5, 0 (none) to 9

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"kind", "", "", "hidden or logprobs"}, self.kind);
    f(FieldInfo{"store", "", "", "scalar type of the files"}, self.store);
    f(FieldInfo{"top_k", "tokens", ">= 1", "kept of each row"}, self.top_k);
    f(FieldInfo{"batch", "documents", ">= 1", "of a forward pass"}, self.batch);
    f(FieldInfo{"segment", "documents", ">= 1", "of a file"}, self.segment);
    f(FieldInfo{"workers", "", "in [1, 1000]", "that share the documents"}, self.workers);
    f(FieldInfo{"shuffled", "", "", "the order is that of a run's first epoch"}, self.shuffled);
    f(FieldInfo{"seed", "", "", "of that order"}, self.seed);
    if (self.container == CacheContainer::safetensors) return;  // older caches lack both fields
    f(FieldInfo{"container", "", "", "safetensors or hdf5"}, self.container);
    f(FieldInfo{"gzip", "", "in [0, 9]", "level of compression, of hdf5"}, self.gzip);
  }
  /// Throws ConfigError, naming the setting, if a setting is out of its range or does not fit the kind.
  void check() const;
};

/// Which teacher was cached on which text. Empty texts and zeros mean "not known"; they are not compared.
struct CacheFacts {
  std::string teacher{};             // path of the teacher, for messages
  std::string teacher_hash{};        // content_hash of the teacher's files
  std::string tokenizer{};           // Tokenizer::content_hash in 16 hexadecimal digits; empty: the model has none
  std::int64_t vocabulary = 0;       // V: rows of the teacher's head
  std::int64_t real_vocabulary = 0;  // number of ids that the teacher's softmax runs over; 0: all V
  std::int64_t hidden_size = 0;
  std::string scalar{};         // the type that the teacher computed in, such as "float32"
  std::string dataset{};        // path of the text, for messages
  std::string dataset_hash{};   // content_hash of the text
  std::int64_t max_length = 0;  // tokens of the longest document that the cache accepts

  std::int64_t columns() const { return real_vocabulary > 0 ? real_vocabulary : vocabulary; }
};

/// One file of a complete cache and its checksum (io/checksum.hpp).
struct CacheFile {
  std::string name, checksum;
};

/// The contents of meta.json.
struct CacheMeta {
  static constexpr int version = 1;
  CacheFacts facts{};
  CacheSettings settings{};
  std::int64_t documents = 0, tokens = 0, rows = 0;  // rows: tokens whose next token counts
  std::string text_hash{};  // fingerprint of ids, offsets and weights of all documents (cached_text_hash)
  bool complete = false;    // true if all segments exist; `files` then lists them
  std::vector<CacheFile> files{};

  /// Returns everything that decides the bytes of the segments, as (key, value).
  SettingsList describe() const;
  /// Returns a fingerprint of describe(). Every segment carries this fingerprint.
  std::string run_hash() const;
  std::string json() const;
  /// Reads meta.json of the cache in `folder`. IoError: there is no meta.json. FormatError names file and key: the file
  /// is broken, or has another format or version.
  static CacheMeta read(const std::string& folder);
};

/// Returns the documents of one segment as places in the order of work. With W workers and B documents in a segment
/// these are the places w + W (s B + j), j = 0 to B - 1, of worker w and segment s, as far as there are documents.
std::vector<std::int64_t> segment_places(const CacheMeta& meta, std::int64_t worker, std::int64_t segment);
/// Returns the number of segments of a worker.
std::int64_t segment_count(const CacheMeta& meta, std::int64_t worker);
/// "segments/000_000012.safetensors", or ….h5
std::string segment_name(std::int64_t worker, std::int64_t segment,
                         CacheContainer container = CacheContainer::safetensors);
/// Returns the fingerprint of all documents (ids, offsets, rows and their weights) that CacheMeta::text_hash holds.
std::string cached_text_hash(const TokenBatch& documents);

namespace detail {
/// The temperatures as text: "1, 2".
std::string temperatures_text(const std::vector<double>& temperatures);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_settings_inl.hpp"
#endif

#endif
