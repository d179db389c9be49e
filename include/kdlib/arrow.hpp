// SPDX-License-Identifier: Apache-2.0
// Reads rows of Parquet files with Apache Arrow. This is the optional component `arrow` (CMake option KDLIB_ARROW):
// link kdlib::arrow, which defines KDLIB_WITH_ARROW and holds the bodies.
#ifndef KDLIB_ARROW_HPP
#define KDLIB_ARROW_HPP

#include <string>

#include "kdlib/data/token_files.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns a function for TokenFileSettings::open_parquet that gives the rows of a Parquet file in order. The columns
/// synth_id, query, synthetic_reasoning and synthetic_answer are required. The columns language, exercise and
/// constraints are read if the file has them, and other columns are not read. A column holds text, stored plainly or
/// through a dictionary; null is read as empty text. Memory holds one batch of 1024 rows and the pages being read,
/// never the whole file.
/// IoError: the file cannot be opened or read. FormatError: the file is no Parquet file or is damaged, or a column is
/// missing or holds no text; the message names file and column.
NextRow parquet_rows(const std::string& path);

KDLIB_NAMESPACE_END

#endif
