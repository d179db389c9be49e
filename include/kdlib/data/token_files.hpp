// SPDX-License-Identifier: Apache-2.0
// Rows of a question, a thought and an answer to token files: shards of .bin and .idx with masks beside them, whole or
// not there, and a manifest that comes last.
#ifndef KDLIB_DATA_TOKEN_FILES_HPP
#define KDLIB_DATA_TOKEN_FILES_HPP

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kdlib/data/row_lines.hpp"
#include "kdlib/data/token_run.hpp"

KDLIB_NAMESPACE_BEGIN

/// What token files are made of and where they go.
struct TokenFileSettings {
  std::vector<std::string> inputs;  // files, or folders of them (by name): .jsonl with an object a line, .parquet
  std::string out;                  // ROOT, a folder
  std::string split = "0.001";      // share of the rows that validates, by blake2b64 of the key (HashShare)
  std::int64_t shard_rows = 65536;  // input rows a shard
  std::int64_t max_rows = 0;        // input rows that are read in all; 0: all
  RowSettings rows{};
  std::function<NextRow(const std::string& path)> open_parquet{};  // parquet_rows of kdlib/arrow.hpp; empty: refused
  std::function<void(const std::string&)> message{};               // a shard is made again, a folder is complete
  std::function<void(std::int64_t rows, std::int64_t bytes)> progress{};  // after each block: rows and bytes of input
};

/// Writes ROOT/{train,valid}/shard_KK_{tokens,lossmask,span}.{bin,idx} and shard_KK_rows.jsonl,
/// ROOT/shards/shard_KK.json when the files of a shard are whole, and ROOT/manifest.json when all shards are.
/// docs/formats.md has the form.
///
/// A shard is a fixed range of input rows. What is whole is kept, what is missing or damaged is made (again): equal
/// inputs and settings give equal bytes, however often the work was cut off and with any number of threads. Memory: one
/// block of rows, and 12 bytes a document of a shard (8 of them at the end for all documents, to find keys that occur
/// twice).
///
/// SettingsError: a setting out of range, no input, a folder that holds the shards of another run. ConfigError: a
/// Parquet file and no open_parquet (the message says how to convert). FormatError, with file and line: a line that is
/// not JSON, a field that is not text, a key that occurs twice. InputError: no row gives a document. IoError: a disk
/// that is full; nothing half-written stays under its name.
TokenFileCounts write_token_files(const Tokenizer& tokenizer, const TokenFileSettings& settings);

/// Files of the inputs in order: files as given, of folders those that end with .jsonl, and with .parquet where
/// `parquet` (a folder of those alone is refused without), by name.
std::vector<std::string> token_file_inputs(const std::vector<std::string>& inputs, bool parquet = false);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/token_files_inl.hpp"
#endif

#endif
