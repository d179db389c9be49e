// SPDX-License-Identifier: Apache-2.0
// JSON Lines: a file with one JSON value on each line. Lines are read one at a time, so files may be larger than
// memory.
#ifndef KDLIB_IO_JSONL_HPP
#define KDLIB_IO_JSONL_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kdlib/io/json.hpp"

KDLIB_NAMESPACE_BEGIN

/// Reads the lines of a text file. Whether a line is valid UTF-8 is not checked here. Lines end with LF or CRLF; the
/// last line may end with the file. Throws FormatError with "file:line" for a line longer than `max_line` bytes; the
/// next call continues behind that line. The constructor throws IoError if the file cannot be opened.
class LineReader {
 public:
  static constexpr std::size_t default_max_line = std::size_t{64} << 20;

  explicit LineReader(std::string path, std::size_t max_line = default_max_line);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader();

  /// Returns the next line without its line end, valid until the next call. Empty at the end of the file.
  std::optional<std::string_view> next();

  std::uint64_t line_number() const { return line_; }    // of the line that was returned last; counts from 1
  std::uint64_t line_offset() const { return offset_; }  // byte in the file where that line begins
  std::string place() const;                             // file and line: "prompts.jsonl:12"
  const std::string& path() const { return path_; }

 private:
  bool fill();
  [[noreturn]] void refuse_long_line(std::size_t end);

  std::string path_, buffer_;
  std::size_t max_line_ = 0, begin_ = 0;
  std::uint64_t line_ = 0, offset_ = 0, next_offset_ = 0;
  int fd_ = -1;
  bool ended_ = false;
};

/// Reads one JSON value from each line. Lines that hold only white space are skipped. A broken line throws FormatError
/// "[json] prompts.jsonl:12: byte 34: ..."; the next call continues behind that line.
class JsonlReader {
 public:
  explicit JsonlReader(std::string path, std::size_t max_line = LineReader::default_max_line)
      : lines_(std::move(path), max_line) {}

  /// Returns the next value. Empty at the end of the file.
  std::optional<Json> next();
  std::uint64_t line_number() const { return lines_.line_number(); }
  std::uint64_t line_offset() const { return lines_.line_offset(); }
  std::string place() const { return lines_.place(); }
  const std::string& path() const { return lines_.path(); }

 private:
  LineReader lines_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/jsonl_inl.hpp"
#endif

#endif
