// SPDX-License-Identifier: Apache-2.0
// Bodies of io/jsonl.hpp.
#ifndef KDLIB_IO_JSONL_INL_HPP
#define KDLIB_IO_JSONL_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr std::size_t read_piece_bytes = std::size_t{1} << 16;
}

KDLIB_FUNC LineReader::LineReader(std::string path, std::size_t max_line)
    : path_(std::move(path)), max_line_(max_line) {
  std::size_t bytes = 0;
  fd_ = detail::open_regular_file("open", path_, bytes).release();
}

KDLIB_FUNC LineReader::LineReader(LineReader&& o) noexcept
    : path_(std::move(o.path_)),
      buffer_(std::move(o.buffer_)),
      max_line_(o.max_line_),
      begin_(o.begin_),
      line_(o.line_),
      offset_(o.offset_),
      next_offset_(o.next_offset_),
      fd_(std::exchange(o.fd_, -1)),
      ended_(o.ended_) {}

KDLIB_FUNC LineReader::~LineReader() {
  if (fd_ >= 0) ::close(fd_);
}

/// Reads one more piece behind what is buffered; false at the end of the file.
KDLIB_FUNC bool LineReader::fill() {
  if (ended_) return false;
  buffer_.erase(0, std::exchange(begin_, 0));
  const std::size_t kept = buffer_.size();
  buffer_.resize(kept + detail::read_piece_bytes);
  ssize_t got = -1;
  do got = ::read(fd_, buffer_.data() + kept, detail::read_piece_bytes);
  while (got < 0 && errno == EINTR);
  if (got < 0) detail::fail_io("read", path_, errno);
  buffer_.resize(kept + static_cast<std::size_t>(got));
  ended_ = got == 0;
  return !ended_;
}

KDLIB_FUNC std::optional<std::string_view> LineReader::next() {
  std::size_t searched = 0;
  std::size_t end = std::string::npos;
  while ((end = buffer_.find('\n', begin_ + searched)) == std::string::npos) {
    searched = buffer_.size() - begin_;
    if (searched > max_line_ || !fill()) break;
  }
  if (end == std::string::npos && begin_ == buffer_.size()) return std::nullopt;
  ++line_;
  offset_ = next_offset_;
  if (end == std::string::npos ? searched > max_line_ : end - begin_ > max_line_) refuse_long_line(end);
  end = std::min(end, buffer_.size());
  std::string_view line = std::string_view(buffer_).substr(begin_, end - begin_);
  const std::size_t next = std::min(end + 1, buffer_.size());
  next_offset_ += next - begin_;
  begin_ = next;
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

/// Goes behind the line, whose end is at `end` or not read yet, without keeping it; then throws.
KDLIB_FUNC void LineReader::refuse_long_line(std::size_t end) {
  while (end == std::string::npos) {
    next_offset_ += buffer_.size() - begin_;
    begin_ = buffer_.size();
    if (!fill()) break;
    end = buffer_.find('\n', begin_);
  }
  const std::size_t next = end == std::string::npos ? buffer_.size() : end + 1;
  next_offset_ += next - begin_;
  begin_ = next;
  fail<FormatError>("[read] ", place(), ": the line is longer than ", max_line_, " bytes");
}

KDLIB_FUNC std::string LineReader::place() const { return concat(path_, ":", line_); }

KDLIB_FUNC std::optional<Json> JsonlReader::next() {
  while (const std::optional<std::string_view> line = lines_.next()) {
    if (line->find_first_not_of(" \t\r") == std::string_view::npos) continue;
    return Json::parse(std::string(*line), lines_.place());
  }
  return std::nullopt;
}

KDLIB_NAMESPACE_END

#endif
