// SPDX-License-Identifier: Apache-2.0
// What a teacher's cache on disk is: which signal, of which teacher, for which text. And meta.json, which says so.
#ifndef KDLIB_TEACHER_CACHE_SETTINGS_HPP
#define KDLIB_TEACHER_CACHE_SETTINGS_HPP

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// What of the teacher is kept of each row that counts.
enum class CacheKind : std::uint8_t {
  hidden,   // the hidden state behind the final norm, and the head once: losses over the whole vocabulary
  logprobs  // the K most probable tokens, and the exact mass of the others: losses on the teacher's top-k
};
constexpr std::array<const char*, 2> enum_names(CacheKind) { return {"hidden", "logprobs"}; }

/// The scalar type of hidden states (f32, bf16) or log-probabilities (f32, f16) in the files.
enum class CacheStore : std::uint8_t { f32, bf16, f16 };
constexpr std::array<const char*, 3> enum_names(CacheStore) { return {"f32", "bf16", "f16"}; }

/// What the files of a cache are.
enum class CacheContainer : std::uint8_t {
  safetensors,  // mapped while it is read
  hdf5          // compressed, read into memory; the program links the component hdf5 (kdlib/hdf5.hpp)
};
constexpr std::array<const char*, 2> enum_names(CacheContainer) { return {"safetensors", "hdf5"}; }

/// How a cache is made. All of it decides bytes of the files and is part of the run hash.
struct CacheSettings {
  CacheKind kind = CacheKind::logprobs;
  CacheStore store = CacheStore::f32;
  std::int64_t top_k = 64;              // tokens of a row, of kind logprobs
  std::vector<double> temperatures{1};  // ascending, each > 0; of kind logprobs: where the tail's mass is exact
  std::int64_t batch = 8;               // documents of a forward pass
  std::int64_t segment = 256;           // documents of a file
  std::int64_t workers = 1;             // processes that share the documents: worker w takes places n mod W = w
  bool shuffled = false;                // documents are worked on in DocumentDataset's first order of `seed`
  std::uint64_t seed = 1;               // of that order
  CacheContainer container = CacheContainer::safetensors;
  int gzip = 4;  // of HDF5: 0 (none) to 9

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
    if (self.container == CacheContainer::safetensors) return;  // caches from before have neither field
    f(FieldInfo{"container", "", "", "safetensors or hdf5"}, self.container);
    f(FieldInfo{"gzip", "", "in [0, 9]", "level of compression, of hdf5"}, self.gzip);
  }
  /// ConfigError naming the setting that is out of its range or does not fit the kind.
  void check() const;
};

/// Who was cached on what. Empty texts and zeros: not known, not compared.
struct CacheFacts {
  std::string teacher{};             // its path, for messages
  std::string teacher_hash{};        // content_hash of its files
  std::string tokenizer{};           // Tokenizer::content_hash in 16 hexadecimal digits; empty: the model has none
  std::int64_t vocabulary = 0;       // rows of the head
  std::int64_t real_vocabulary = 0;  // ids that its softmax runs over; 0: all
  std::int64_t hidden_size = 0;
  std::string scalar{};         // "float32": what the teacher computed in
  std::string dataset{};        // path of the text, for messages
  std::string dataset_hash{};   // content_hash of it
  std::int64_t max_length = 0;  // tokens of the longest document that was let in

  std::int64_t columns() const { return real_vocabulary > 0 ? real_vocabulary : vocabulary; }
};

/// A file of a complete cache with its checksum (io/checksum.hpp).
struct CacheFile {
  std::string name, checksum;
};

/// meta.json.
struct CacheMeta {
  static constexpr int version = 1;
  CacheFacts facts{};
  CacheSettings settings{};
  std::int64_t documents = 0, tokens = 0, rows = 0;  // rows: tokens whose next one counts
  std::string text_hash{};                           // ids, limits and weights of all documents
  bool complete = false;                             // all segments are there; `files` lists them
  std::vector<CacheFile> files{};

  /// Everything that decides the segments' bytes, as (key, value).
  SettingsList describe() const;
  /// A fingerprint of describe(): every segment carries it.
  std::string run_hash() const;
  std::string json() const;
  /// Of a cache's folder. IoError: there is none; FormatError naming file and key: it is broken, or of another format
  /// or version.
  static CacheMeta read(const std::string& folder);
};

/// Documents that a worker's segment holds, as places in the order of working: w + W (s B + j).
std::vector<std::int64_t> segment_places(const CacheMeta& meta, std::int64_t worker, std::int64_t segment);
/// Segments of a worker.
std::int64_t segment_count(const CacheMeta& meta, std::int64_t worker);
/// "segments/000_000012.safetensors", or ….h5
std::string segment_name(std::int64_t worker, std::int64_t segment,
                         CacheContainer container = CacheContainer::safetensors);
/// The text of all documents as meta.json compares it.
std::string cached_text_hash(const TokenBatch& documents);

namespace detail {
/// "1, 2"
std::string temperatures_text(const std::vector<double>& temperatures);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_settings_inl.hpp"
#endif

#endif
