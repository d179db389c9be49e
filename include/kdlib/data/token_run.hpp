// SPDX-License-Identifier: Apache-2.0
// The functions that shards of token files and rescored parts share: writing documents, file names, hashes of files,
// and counts as JSON.
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

/// How many rows became documents, and how many were skipped for each reason (`skips`, by RowSkip).
struct TokenFileCounts {
  std::int64_t rows = 0, documents = 0, truncated = 0;
  std::array<std::int64_t, 2> split_documents{}, split_tokens{};  // train, valid; tokens include the ends of documents
  std::array<std::int64_t, 9> skips{};
  TokenFileCounts& operator+=(const TokenFileCounts& o);
  std::string skipped() const;  // such as "3 no_id, 1 filtered"; empty if no row was skipped
};

namespace detail {

inline constexpr const char* split_names[] = {"train", "valid"};

/// Returns a name such as "shard_07" or "part_00012", with at least `digits` digits.
std::string numbered(std::string_view what, std::int64_t number, std::size_t digits);
std::string shard_name(std::int64_t k);
/// Returns the names of the files that a DocumentWriter of this prefix makes, with `scored` also those of the teacher's
/// log-probabilities.
std::vector<std::string> document_files(const std::string& prefix, bool scored);
/// Writes an object of the hashes of files below `root`: {"train/shard_00_tokens.bin": "sha256:...", ...}.
void write_file_hashes(JsonWriter& json, const std::string& root, const std::vector<std::string>& names);
/// Returns whether every file that such an object names exists and has its hash. If not, `problem` says which file is
/// wrong.
bool files_are_whole(const std::string& root, const Json& files, std::string& problem);
/// Returns a text such as "teacher is 'A' there and 'B' here" for the first member of `here`, or of an object in
/// `here`, that is missing or different in `there`. The text is empty if there is no difference.
std::string first_difference(const Json& there, const Json& here);
/// SettingsError: a .json file in `folder` belongs to another run than `run`. The file is not touched, because it may
/// be the work of days. `what` names the file in messages ("a shard"), and `inputs` names what may differ between the
/// runs. `made_of` is the JSON text that this run's hash was made of; if the file has a member of that name, the
/// message says where both differ.
void refuse_other_run(std::string_view operation, const std::string& folder, const std::string& run,
                      std::string_view what, std::string_view inputs, const std::string& made_of = {});
void write_counts(JsonWriter& json, const TokenFileCounts& c);
TokenFileCounts counts_of(const Json& json);
/// Writes the members of a line of rows.jsonl, as TokenShards::records() reads them. The caller may add members.
void write_record(JsonWriter& json, const RowRecord& record);

/// Writes the tokens, masks and rows of documents. commit() gives the files their final names, the tokens last.
class DocumentWriter {
 public:
  explicit DocumentWriter(const std::string& prefix);
  /// Adds a document: its ids with the end-of-document token, and the label-aligned masks of the same length. `row` is
  /// its line of rows.jsonl.
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
