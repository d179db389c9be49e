// SPDX-License-Identifier: Apache-2.0
// What shards of token files and rescored parts share: names, hashes of their files, counts as JSON.
#ifndef KDLIB_DATA_TOKEN_RUN_HPP
#define KDLIB_DATA_TOKEN_RUN_HPP

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/data/reasoning_rows.hpp"
#include "kdlib/io/json_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// What became of the rows; `skips` by RowSkip.
struct TokenFileCounts {
  std::int64_t rows = 0, documents = 0, truncated = 0;
  std::array<std::int64_t, 2> split_documents{}, split_tokens{};  // train, valid; tokens with the ends of documents
  std::array<std::int64_t, 9> skips{};
  TokenFileCounts& operator+=(const TokenFileCounts& o);
};

namespace detail {

inline constexpr const char* split_names[] = {"train", "valid"};

/// "shard_07", "part_00012": the number with at least `digits` digits.
std::string numbered(std::string_view what, std::int64_t number, std::size_t digits);
std::string shard_name(std::int64_t k);
/// The seven files of a shard and split, from the root on.
std::vector<std::string> shard_files(std::string_view split, std::int64_t k);
/// {"train/shard_00_tokens.bin": "sha256:...", ...}
void write_file_hashes(JsonWriter& json, const std::string& root, const std::vector<std::string>& names);
/// Every file of such an object is there with its bytes; else `problem` says which is not.
bool files_are_whole(const std::string& root, const Json& files, std::string& problem);
std::string skip_text(const std::array<std::int64_t, 9>& skips);
void write_counts(JsonWriter& json, const TokenFileCounts& c);
TokenFileCounts counts_of(const Json& json);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/token_run_inl.hpp"
#endif

#endif
