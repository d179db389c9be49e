// SPDX-License-Identifier: Apache-2.0
// Reads the rows of several files, one file after the other, with their places.
#ifndef KDLIB_DATA_ROW_LINES_HPP
#define KDLIB_DATA_ROW_LINES_HPP

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/data/reasoning_rows.hpp"
#include "kdlib/io/jsonl.hpp"

KDLIB_NAMESPACE_BEGIN

/// Reads the next row of a file into `row`; returns false at the end of the file.
using NextRow = std::function<bool(ReasoningRow& row)>;

namespace detail {

inline bool is_parquet(std::string_view path) { return path.ends_with(".parquet"); }

/// The rows of all input files in order: lines as they stand in the file, or rows that a Parquet file gave.
class RowLines {
 public:
  RowLines(std::vector<std::string> files, std::function<NextRow(const std::string& path)> open_parquet)
      : files_(std::move(files)), open_parquet_(std::move(open_parquet)) {}

  struct Line {
    std::string text{};                   // a line that is not yet parsed, or
    std::optional<ReasoningRow> given{};  // the row that a Parquet file gave
    std::size_t file = 0;
    std::int64_t row = 0;  // line or row of the file, from 1
  };

  /// Reads the next row whose line is not blank. Returns false at the end of all files.
  bool next(Line& line) {
    if (!ahead_) read_ahead();
    if (!ahead_) return false;
    line = std::move(*ahead_);
    ahead_.reset();
    bytes_ += size_of(line);
    return true;
  }
  bool at_end() {
    if (!ahead_) read_ahead();
    return !ahead_;
  }
  std::int64_t bytes() const { return bytes_; }  // bytes of all lines and texts that were given out
  const std::string& path(std::size_t file) const { return files_[file]; }

 private:
  std::vector<std::string> files_;
  std::function<NextRow(const std::string& path)> open_parquet_;
  std::size_t file_ = 0;
  std::int64_t bytes_ = 0, rows_ = 0;  // rows_: rows read from the open Parquet file
  std::optional<LineReader> reader_;
  NextRow parquet_;
  std::optional<Line> ahead_;

  static std::int64_t size_of(const Line& line) {
    std::size_t bytes = line.text.size() + 1;
    if (line.given)
      for (const std::string* text : {&line.given->query, &line.given->reasoning, &line.given->answer})
        bytes += text->size();
    return static_cast<std::int64_t>(bytes);
  }
  void read_ahead() {
    while (file_ < files_.size() && !ahead_)
      if (!(is_parquet(files_[file_]) ? read_parquet() : read_line())) ++file_;
  }
  /// Returns false at the end of the file.
  bool read_line() {
    if (!reader_) reader_.emplace(files_[file_]);
    const auto view = reader_->next();
    if (!view) return reader_.reset(), false;
    if (view->find_first_not_of(" \t\r") != std::string_view::npos)
      ahead_ = Line{std::string(*view), std::nullopt, file_, static_cast<std::int64_t>(reader_->line_number())};
    return true;
  }
  bool read_parquet() {
    if (!parquet_) parquet_ = open_parquet_(files_[file_]), rows_ = 0;
    ReasoningRow row;
    if (!parquet_(row)) return parquet_ = nullptr, false;
    ahead_ = Line{{}, std::move(row), file_, ++rows_};
    return true;
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
