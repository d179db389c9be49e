// SPDX-License-Identifier: Apache-2.0
// The lines of several files, one after the other, with their places.
#ifndef KDLIB_DATA_ROW_LINES_HPP
#define KDLIB_DATA_ROW_LINES_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/io/jsonl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Lines of all input files, one after the other.
class RowLines {
 public:
  explicit RowLines(std::vector<std::string> files) : files_(std::move(files)) {}

  struct Line {
    std::string text;
    std::size_t file;
    std::int64_t row;  // line of the file, from 1
  };

  /// The next line that is not blank.
  bool next(Line& line) {
    if (!ahead_) read_ahead();
    if (!ahead_) return false;
    line = std::move(*ahead_);
    ahead_.reset();
    bytes_ += static_cast<std::int64_t>(line.text.size()) + 1;
    return true;
  }
  bool at_end() {
    if (!ahead_) read_ahead();
    return !ahead_;
  }
  std::int64_t bytes() const { return bytes_; }  // of the lines given out
  const std::string& path(std::size_t file) const { return files_[file]; }

 private:
  std::vector<std::string> files_;
  std::size_t file_ = 0;
  std::int64_t bytes_ = 0;
  std::optional<LineReader> reader_;
  std::optional<Line> ahead_;

  void read_ahead() {
    while (file_ < files_.size()) {
      if (!reader_) reader_.emplace(files_[file_]);
      const auto view = reader_->next();
      if (!view) {
        reader_.reset();
        ++file_;
      } else if (view->find_first_not_of(" \t\r") != std::string_view::npos) {
        ahead_ = Line{std::string(*view), file_, static_cast<std::int64_t>(reader_->line_number())};
        return;
      }
    }
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
