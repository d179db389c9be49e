// SPDX-License-Identifier: Apache-2.0
// Writes rows of a question, a thought and an answer to token files: shards of .bin and .idx files with masks beside
// them. A shard is either whole or not there; the manifest is written last.
#ifndef KDLIB_DATA_TOKEN_FILES_HPP
#define KDLIB_DATA_TOKEN_FILES_HPP

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kdlib/data/row_lines.hpp"
#include "kdlib/data/token_run.hpp"

KDLIB_NAMESPACE_BEGIN

/// What token files are made of and where they are written.
struct TokenFileSettings {
  std::vector<std::string> inputs;  // files, or folders of files: .jsonl (an object on each line) or .parquet
  std::string out;                  // the folder ROOT
  std::string split = "0.001";      // share of rows for validation, by blake2b64 of the key (HashShare)
  std::int64_t shard_rows = 65536;  // input rows of a shard, >= 1
  std::int64_t max_rows = 0;        // largest number of input rows to read; 0: all
  RowSettings rows{};
  std::function<NextRow(const std::string& path)> open_parquet{};         // parquet_rows (kdlib/arrow.hpp), or empty
  std::function<void(const std::string&)> message{};                      // receives notes: a shard is made again
  std::function<void(std::int64_t rows, std::int64_t bytes)> progress{};  // rows of a block; bytes so far
};

/// Writes ROOT/{train,valid}/shard_KK_{tokens,lossmask,span}.{bin,idx} and shard_KK_rows.jsonl, then
/// ROOT/shards/shard_KK.json when the files of a shard are whole, and ROOT/manifest.json when all shards are whole.
/// docs/formats.md describes the files.
///
/// A shard is a fixed range of input rows. Whole shards are kept; missing or damaged shards are made (again). Equal
/// inputs and settings give equal bytes, however often the work was interrupted and with any number of threads. Memory
/// holds one block of rows and, for each document of the current shard, three lengths (12 bytes) and an entry in a hash
/// table of keys. At the end, 8 bytes for each document of all shards are needed to find keys that occur twice.
///
/// SettingsError: a setting is out of its range, there is no input, or the folder holds shards of another run.
/// ConfigError: there is a Parquet file but no open_parquet (the message says how to convert the file), or a folder has
/// no input files. FormatError, naming file and line: a line is not JSON, a field is not text, or a key occurs twice.
/// InputError: no row gives a document. IoError: a file cannot be read or written, for example because the disk is
/// full; no half-written file stays under its final name.
TokenFileCounts write_token_files(const Tokenizer& tokenizer, const TokenFileSettings& settings);

/// Returns the files of the inputs in order: files as given, and of each folder the files that end with .jsonl (and
/// with .parquet if `parquet`), sorted by name. SettingsError: there is no input. ConfigError: a folder has no such
/// file, or a .parquet file is given without `parquet`. IoError: a file does not exist.
std::vector<std::string> token_file_inputs(const std::vector<std::string>& inputs, bool parquet = false);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/token_files_inl.hpp"
#endif

#endif
