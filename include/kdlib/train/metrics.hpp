// SPDX-License-Identifier: Apache-2.0
// Metric sinks, the places for the numbers of a run: a file of JSON lines, memory, or nowhere.
#ifndef KDLIB_TRAIN_METRICS_HPP
#define KDLIB_TRAIN_METRICS_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/io/atomic_file.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The last line of a file of metrics: its step (-1: there is no line), its first byte, the byte behind its end, and
/// its text.
struct LastMetricsLine {
  std::int64_t step = -1;
  std::uint64_t begin = 0, end = 0;
  std::string text;
};
}  // namespace detail

/// A metric sink that writes one JSON object in each line: {"step":20,"time":3.25,"tokens":1024.0,"train/loss":0.51}.
/// Values keep the order in which they came. Numbers have the fewest digits that read back exactly; NaN and infinities
/// become null. Lines are appended to the file, and each flush() syncs the file to disk. Two equal runs differ only in
/// "time", in keys that end in _seconds or _per_s, and in values that describe the machine, such as dp/slowest_rank.
class JsonLines {
 public:
  /// Opens the file and makes the folders above it. IoError: a folder or the file cannot be made.
  explicit JsonLines(const std::string& path);

  void scalar(std::string_view name, std::int64_t step, double value);
  void flush();

  /// Removes every line after `step` (-1: all lines) and an incomplete line that a killed process left. If scalars of
  /// `step` itself follow at once, they are added to the line of this step. FormatError: a line that would stay was not
  /// written by this class; the file belongs to something else and is not changed.
  void rewind(std::int64_t step);

  const std::string& path() const { return file_.path(); }

 private:
  void end_line();

  AppendFile file_;
  std::string line_;
  std::int64_t step_ = -1;
  detail::LastMetricsLine last_;  // last line of the file after rewind(), while it may still grow
};

/// A metric sink that keeps all values in memory, for programs that draw curves and for tests.
class MemoryMetrics {
 public:
  struct Entry {
    std::int64_t step;
    std::string name;
    double value;
  };

  void scalar(std::string_view name, std::int64_t step, double value) {
    entries_.push_back({step, std::string(name), value});
  }
  void flush() {}
  void rewind(std::int64_t step);

  const std::vector<Entry>& entries() const { return entries_; }
  /// Returns (step, value) of one name, in order.
  std::vector<std::pair<std::int64_t, double>> series(std::string_view name) const;

 private:
  std::vector<Entry> entries_;
};

/// A metric sink that drops all values.
struct NoMetrics {
  void scalar(std::string_view, std::int64_t, double) {}
  void flush() {}
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/metrics_inl.hpp"
#endif

#endif
