// SPDX-License-Identifier: Apache-2.0
// Token files as one list of documents: shards of a split, rescored parts, or any Megatron data set.
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

/// One document as files hold it, without its end-of-document token. Masks are label-aligned: they speak of the next
/// token.
struct StoredDocument {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> loss, span;  // [ids]; span 1: thought, 2: answer
  std::vector<float> log_probs;          // [ids] of the teacher for the next token, or empty
  std::string source;                    // "train/shard_00:17", the number from 0
};

/// What the rows.jsonl beside a shard says of a document.
struct RowRecord {
  std::string key, file, language, exercise, effort;
  std::int64_t row = 0, tokens = 0, prompt = 0, reasoning = 0, final = 0, effort_at = -1;
  bool truncated = false;
};

/// Opened token files. Documents have numbers from 0 over all shards in order; reading is by memory map and may be done
/// from several threads.
class TokenShards {
 public:
  /// ROOT/manifest.json and the files of a split ("train", "valid") that it names, or of rescored parts
  /// (`split` "parts"). FormatError naming file and key: a manifest of another form, files that it names and that are
  /// not there, files that contradict each other or the manifest. `verify`: the bytes of all files have the hashes that
  /// the manifest says.
  static TokenShards open(const std::string& root, const std::string& split, bool verify = false);
  /// PREFIX.bin and .idx of a Megatron data set without masks: every token counts. `end_of_document`: the id that is
  /// dropped at the end of documents, -1: none.
  static TokenShards of_prefixes(const std::vector<std::string>& prefixes, std::int32_t end_of_document = -1);

  std::int64_t documents() const { return starts_.back(); }
  std::int64_t tokens() const { return tokens_; }  // with the ends of documents
  bool has_masks() const { return has_masks_; }
  bool has_log_probs() const { return has_log_probs_; }
  /// Replaces `out` by document d. FormatError: ids that are negative, a mask that is neither 0 nor 1, a span above 2,
  /// a log-probability that is no number or above 0 where the loss mask is 1.
  void get(std::int64_t d, StoredDocument& out) const;
  /// What rows.jsonl says of all documents in order; empty for data sets without it.
  std::vector<RowRecord> records() const;

  /// ConfigError, with both, unless the files were made with a tokenizer of the same ids. Data sets without a manifest
  /// are not known to belong to one.
  void require_tokenizer(const Tokenizer& tokenizer) const;
  const Fingerprint& fingerprint() const { return fingerprint_; }  // of the manifest's run, split and lengths
  const std::string& run() const { return run_; }                  // hash of the run that made them; empty: none
  const std::vector<std::int32_t>& effort_ids() const { return effort_ids_; }
  const std::string& root() const { return root_; }
  /// The chat template of the settings that made them; empty: Harmony, rescored parts, no manifest.
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

/// Adds a document to a batch: row weights by its loss mask, spans 0 (thought) and 1 (answer), -1 elsewhere, its
/// source.
void append_document(TokenBatch& batch, const StoredDocument& document);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/token_shards_inl.hpp"
#endif

#endif
