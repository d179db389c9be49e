// SPDX-License-Identifier: Apache-2.0
// Follows a metrics.jsonl that grows, and notices if the file was cut and continued.
#ifndef KDLIB_TOOLS_SERVICE_METRICS_TAIL_HPP
#define KDLIB_TOOLS_SERVICE_METRICS_TAIL_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One complete line of the file.
struct MetricsLine {
  std::uint64_t end = 0;  // offset of the byte behind the line feed
  std::int64_t step = -1;
  std::uint64_t hash = 0;
};

/// Reads the lines of a run's metrics as they are written. If a resumed run has cut the file (and perhaps already
/// continued it), the lines that are still the same are kept, `generation` is increased, and kept_since() tells how
/// many lines were kept.
class MetricsTail {
 public:
  explicit MetricsTail(std::string path) : path_(std::move(path)) {}

  /// Reads new lines, at most 8 MiB. Returns true if something changed. An incomplete line is read when it is complete.
  bool refresh();

  std::size_t size() const { return lines_.size(); }
  std::int64_t step(std::size_t line) const { return lines_[line].step; }
  /// Returns lines [first, last) of the file; empty if the file has become shorter.
  std::string text(std::size_t first, std::size_t last) const;
  std::uint64_t bytes(std::size_t first, std::size_t last) const;
  /// Returns the first line whose step is at least `step`.
  std::size_t find_step(std::int64_t step) const;
  std::uint64_t generation() const { return generation_; }
  /// Returns the number of lines that all cuts since `generation` have left.
  std::size_t kept_since(std::uint64_t generation) const;

 private:
  void cut(std::size_t lines);
  std::size_t same_lines(int fd, std::uint64_t size) const;

  std::string path_;
  std::vector<MetricsLine> lines_;
  std::uint64_t generation_ = 0, inode_ = 0;
  std::vector<std::size_t> cuts_;  // for each generation i + 1: the lines that remained when the generation began
};

namespace detail {
/// Returns the bytes [begin, end) of a file, or fewer if the file ends before `end`.
std::string read_range(int fd, std::uint64_t begin, std::uint64_t end);
}  // namespace detail

/// Chooses at most `most` points of a curve and returns their indices. The first and the last point are kept, and the
/// smallest and the largest value of every section between them.
std::vector<std::size_t> keep_extremes(const std::vector<double>& values, std::size_t most);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/metrics_tail_inl.hpp"
#endif

#endif
