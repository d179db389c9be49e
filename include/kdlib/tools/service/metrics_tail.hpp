// SPDX-License-Identifier: Apache-2.0
// Follows a metrics.jsonl that grows, and notices where it was cut and written on.
#ifndef KDLIB_TOOLS_SERVICE_METRICS_TAIL_HPP
#define KDLIB_TOOLS_SERVICE_METRICS_TAIL_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One whole line of the file.
struct MetricsLine {
  std::uint64_t end = 0;  // offset behind its line feed
  std::int64_t step = -1;
  std::uint64_t hash = 0;
};

/// Lines of a run's metrics, read as they come. A file that a resumed run has cut (and perhaps written on already)
/// keeps the lines that are still the same; `generation` goes up, and `kept` says how many lines stayed.
class MetricsTail {
 public:
  explicit MetricsTail(std::string path) : path_(std::move(path)) {}

  /// Reads what is new, at most 8 MiB. True where something changed. A half-written line waits for its end.
  bool refresh();

  std::size_t size() const { return lines_.size(); }
  std::int64_t step(std::size_t line) const { return lines_[line].step; }
  /// Lines [first, last) as they stand in the file; empty where the file is shorter by now.
  std::string text(std::size_t first, std::size_t last) const;
  std::uint64_t bytes(std::size_t first, std::size_t last) const;
  /// First line whose step is at least that.
  std::size_t find_step(std::int64_t step) const;
  std::uint64_t generation() const { return generation_; }
  /// Lines that every cut since `generation` left.
  std::size_t kept_since(std::uint64_t generation) const;

 private:
  void cut(std::size_t lines);
  std::size_t same_lines(int fd, std::uint64_t size) const;

  std::string path_;
  std::vector<MetricsLine> lines_;
  std::uint64_t generation_ = 0, inode_ = 0;
  std::vector<std::size_t> cuts_;  // lines left by the cut that began generation i + 1
};

namespace detail {
/// Bytes [begin, end) of a file, fewer where it ends before.
std::string read_range(int fd, std::uint64_t begin, std::uint64_t end);
}  // namespace detail

/// Indices of at most `most` points that keep the smallest and the largest value of every stretch, first and last.
std::vector<std::size_t> keep_extremes(const std::vector<double>& values, std::size_t most);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/metrics_tail_inl.hpp"
#endif

#endif
