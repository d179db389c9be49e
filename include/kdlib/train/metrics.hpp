// SPDX-License-Identifier: Apache-2.0
// Places for the numbers of a run: a file of JSON lines, memory, or nowhere.
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
/// The last line of a file of metrics: its step (-1: none), where it begins and its text.
struct LastMetricsLine {
  std::int64_t step = -1;
  std::uint64_t begin = 0, end = 0;
  std::string text;
};
}  // namespace detail

/// One object a line: {"step":20,"time":3.25,"tokens":1024.0,"train/loss":0.51}. Values keep the order in which they
/// came; numbers have the fewest digits that read back exactly; NaN and infinities are null. The file is appended to
/// and synced at each flush(). "time" and keys that end in _seconds or _per_s are the only values in which two equal
/// runs differ.
class JsonLines {
 public:
  /// Makes the folders above the file. IoError where that or the file is refused.
  explicit JsonLines(const std::string& path);

  void scalar(std::string_view name, std::int64_t step, double value);
  void flush();

  /// Cuts every line behind `step` (-1: all) and what a killed process left of a line. Scalars of `step` itself that
  /// follow at once are added to its line. FormatError when a line that stays is not one of this class: the file
  /// belongs to something else and is not touched.
  void rewind(std::int64_t step);

  const std::string& path() const { return file_.path(); }

 private:
  void end_line();

  AppendFile file_;
  std::string line_;
  std::int64_t step_ = -1;
  detail::LastMetricsLine last_;  // of the file after rewind(), while it may still grow
};

/// Keeps everything; for programs that draw curves, and tests.
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
  /// (step, value) of one name in order.
  std::vector<std::pair<std::int64_t, double>> series(std::string_view name) const;

 private:
  std::vector<Entry> entries_;
};

/// For runs whose numbers nobody wants.
struct NoMetrics {
  void scalar(std::string_view, std::int64_t, double) {}
  void flush() {}
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/metrics_inl.hpp"
#endif

#endif
