// SPDX-License-Identifier: Apache-2.0
// What shards of token files and rescored parts share: how they are written, names, hashes of their files, counts as
// JSON.
#ifndef KDLIB_DATA_TOKEN_RUN_HPP
#define KDLIB_DATA_TOKEN_RUN_HPP

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/data/reasoning_rows.hpp"
#include "kdlib/data/token_shards.hpp"
#include "kdlib/io/json_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// What became of the rows; `skips` by RowSkip.
struct TokenFileCounts {
  std::int64_t rows = 0, documents = 0, truncated = 0;
  std::array<std::int64_t, 2> split_documents{}, split_tokens{};  // train, valid; tokens with the ends of documents
  std::array<std::int64_t, 9> skips{};
  TokenFileCounts& operator+=(const TokenFileCounts& o);
  std::string skipped() const;  // "3 no_id, 1 filtered"; empty where nothing was
};

namespace detail {

inline constexpr const char* split_names[] = {"train", "valid"};

/// "shard_07", "part_00012": the number with at least `digits` digits.
std::string numbered(std::string_view what, std::int64_t number, std::size_t digits);
std::string shard_name(std::int64_t k);
/// What a DocumentWriter of this prefix makes; `scored`: and the teacher's log-probabilities beside it.
std::vector<std::string> document_files(const std::string& prefix, bool scored);
/// {"train/shard_00_tokens.bin": "sha256:...", ...}
void write_file_hashes(JsonWriter& json, const std::string& root, const std::vector<std::string>& names);
/// Every file of such an object is there with its bytes; else `problem` says which is not.
bool files_are_whole(const std::string& root, const Json& files, std::string& problem);
/// "the teacher is 'A' there and 'B' here": the first member of `here`, or of an object in it, that `there` lacks or
/// has with another value. Empty: none.
std::string first_difference(const Json& there, const Json& here);
/// SettingsError where a .json in `folder` is that of another run than `run`. It is not touched: it may be somebody's
/// work of days. `what`: "a shard"; `inputs`: what its run may have had of its own. `made_of`: what this run's hash is
/// of, to be compared with the file's member of that name where it has one.
void refuse_other_run(std::string_view operation, const std::string& folder, const std::string& run,
                      std::string_view what, std::string_view inputs, const std::string& made_of = {});
void write_counts(JsonWriter& json, const TokenFileCounts& c);
TokenFileCounts counts_of(const Json& json);
/// A line of rows.jsonl, as TokenShards::records() reads it; more members may follow.
void write_record(JsonWriter& json, const RowRecord& record);

/// Tokens, masks and rows of documents while they are made; commit() gives them their names, the tokens last.
class DocumentWriter {
 public:
  explicit DocumentWriter(const std::string& prefix);
  /// A document with its end, and the label-aligned masks; all of one length. `row`: its line of rows.jsonl.
  void add(const std::vector<std::int32_t>& ids, const std::vector<std::uint8_t>& loss,
           const std::vector<std::uint8_t>& span, const std::string& row);
  void commit();

 private:
  IndexedWriter tokens_, lossmask_, span_;
  AtomicFile rows_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/token_run_inl.hpp"
#endif

#endif
