// SPDX-License-Identifier: Apache-2.0
// Opens token files as one list of documents: the shards of a split, rescored parts, or any Megatron data set.
#ifndef KDLIB_DATA_TOKEN_SHARDS_HPP
#define KDLIB_DATA_TOKEN_SHARDS_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kdlib/core/fingerprint.hpp"
#include "kdlib/io/indexed_file.hpp"
#include "kdlib/tensor/token_batch.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// One document as the files hold it, without its end-of-document token. Masks are label-aligned: entry t describes
/// token t + 1.
struct StoredDocument {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> loss, span;  // [ids]; loss 1: the token counts; span 1: thought, 2: answer, 0: neither
  std::vector<float> log_probs;          // [ids] of the next token under the teacher, or empty
  std::string source;                    // the place, such as "train/shard_00:17"; documents count from 0
};

/// What the file rows.jsonl beside a shard says about a document.
struct RowRecord {
  std::string key, file, language, exercise, effort;
  std::int64_t row = 0, tokens = 0, prompt = 0, reasoning = 0, final = 0, effort_at = -1;
  bool truncated = false;
};

/// Opened token files. The documents of all shards are numbered in order from 0. Files are read through memory maps,
/// and several threads may read at once.
class TokenShards {
 public:
  /// Opens the files that ROOT/manifest.json names for a split ("train" or "valid"), or for rescored parts (`split` =
  /// "parts"). With `verify`, the hashes of all files are compared with the manifest. IoError: there is no manifest.
  /// FormatError, naming file and key: the manifest has another form, a file is missing, or files contradict each other
  /// or the manifest.
  static TokenShards open(const std::string& root, const std::string& split, bool verify = false);
  /// Opens PREFIX.bin and PREFIX.idx of Megatron data sets without masks: every token but the first of a document
  /// counts. `end_of_document` is the id that is dropped at the end of documents, or -1 for none.
  static TokenShards of_prefixes(const std::vector<std::string>& prefixes, std::int32_t end_of_document = -1);

  std::int64_t documents() const { return starts_.back(); }
  std::int64_t tokens() const { return tokens_; }  // including the ends of documents
  bool has_masks() const { return has_masks_; }
  bool has_log_probs() const { return has_log_probs_; }
  /// Reads document d into `out`. FormatError: the document has no token, an id is negative, a mask is neither 0 nor 1,
  /// a span is above 2, the mask of the last token is not 0, or a log-probability is not finite or is above 0 where the
  /// loss mask is 1.
  void get(std::int64_t d, StoredDocument& out) const;
  /// Returns what rows.jsonl says about all documents, in order. Empty for data sets without rows.jsonl.
  std::vector<RowRecord> records() const;

  /// ConfigError: the files were made with a tokenizer whose content differs; the message names both. Data sets without
  /// a manifest are not checked.
  void require_tokenizer(const Tokenizer& tokenizer) const;
  const Fingerprint& fingerprint() const { return fingerprint_; }  // of run, split and sizes
  const std::string& run() const { return run_; }                  // hash of the run that made them, or empty
  const std::vector<std::int32_t>& effort_ids() const { return effort_ids_; }
  const std::string& root() const { return root_; }
  /// Returns the chat template of the settings that made the files. Empty: Harmony, rescored parts, or no manifest.
  const std::string& chat_template() const { return chat_template_; }

 private:
  struct Shard {
    std::string name;
    std::shared_ptr<const IndexedFile> tokens, loss, span, log_probs;
  };
  void add(Shard shard, const std::string& place);
  void read_manifest(const std::string& root, const std::string& split, bool verify);

  std::vector<Shard> shards_;
  std::vector<std::int64_t> starts_{0};  // first document of each shard, then the number of all
  std::vector<std::string> row_files_;
  std::vector<std::int32_t> effort_ids_;
  std::string root_, run_, tokenizer_, chat_template_;
  std::int32_t end_of_document_ = -1;
  std::int64_t tokens_ = 0;
  bool has_masks_ = true, has_log_probs_ = false;
  Fingerprint fingerprint_;
};

/// Appends a document to a batch, with its source. Row weights are the loss mask; spans are 0 (thought) and 1 (answer)
/// for tokens that count, and -1 elsewhere.
void append_document(TokenBatch& batch, const StoredDocument& document);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/token_shards_inl.hpp"
#endif

#endif
