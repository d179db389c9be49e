// SPDX-License-Identifier: Apache-2.0
// Rows of Parquet files by Apache Arrow: the component `arrow`, opt-in (KDLIB_ARROW; link kdlib::arrow, which defines
// KDLIB_WITH_ARROW and holds the bodies).
#ifndef KDLIB_ARROW_HPP
#define KDLIB_ARROW_HPP

#include <string>

#include "kdlib/data/token_files.hpp"

KDLIB_NAMESPACE_BEGIN

/// For TokenFileSettings::open_parquet: the rows of a file in order, from its columns synth_id, query,
/// synthetic_reasoning and synthetic_answer, and language, exercise and constraints where it has them; others are not
/// read. A column holds text, plainly or by a dictionary; null is empty. Memory: batches of 1024 rows and the pages
/// under way, not the file.
/// IoError: a file that cannot be opened or read. FormatError, naming file and column: no Parquet file, a damaged one,
/// a column that is missing or no text.
NextRow parquet_rows(const std::string& path);

KDLIB_NAMESPACE_END

#endif
