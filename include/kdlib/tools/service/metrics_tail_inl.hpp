// SPDX-License-Identifier: Apache-2.0
// Bodies of metrics_tail.hpp.
#ifndef KDLIB_TOOLS_SERVICE_METRICS_TAIL_INL_HPP
#define KDLIB_TOOLS_SERVICE_METRICS_TAIL_INL_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <span>

#include "kdlib/io/checksum.hpp"
#include "kdlib/io/system_inl.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_TOOLS_FUNC std::uint64_t line_hash(std::string_view text) { return xxh64(std::as_bytes(std::span(text))); }

/// The number behind {"step": of a line; -1 where the line does not begin so.
KDLIB_TOOLS_FUNC std::int64_t line_step(std::string_view line) {
  constexpr std::string_view begin = "{\"step\":";
  if (line.substr(0, begin.size()) != begin) return -1;
  std::int64_t step = 0;
  std::size_t i = begin.size();
  for (; i < line.size() && line[i] >= '0' && line[i] <= '9'; ++i) step = step * 10 + (line[i] - '0');
  return i == begin.size() ? -1 : step;
}

KDLIB_TOOLS_FUNC std::string read_range(int fd, std::uint64_t begin, std::uint64_t end) {
  std::string out(static_cast<std::size_t>(end - begin), '\0');
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(begin + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

}  // namespace detail

KDLIB_TOOLS_FUNC void MetricsTail::cut(std::size_t lines) {
  lines_.resize(lines);
  ++generation_;
  cuts_.push_back(lines);
}

/// How many lines from the front stand in the file as they were read. Lines before a cut are untouched, so that the
/// answer can be found by halving.
KDLIB_TOOLS_FUNC std::size_t MetricsTail::same_lines(int fd, std::uint64_t size) const {
  std::size_t good = 0, bad = lines_.size() + 1;
  while (bad - good > 1) {
    const std::size_t middle = (good + bad) / 2;
    const std::uint64_t begin = middle == 1 ? 0 : lines_[middle - 2].end, end = lines_[middle - 1].end;
    const bool same = end <= size && detail::line_hash(detail::read_range(fd, begin, end)) == lines_[middle - 1].hash;
    (same ? good : bad) = middle;
  }
  return good;
}

KDLIB_TOOLS_FUNC bool MetricsTail::refresh() {
  const detail::FileDescriptor fd = detail::open_descriptor(path_, O_RDONLY | O_NONBLOCK);
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    if (lines_.empty()) return false;
    cut(0);
    return true;
  }
  const std::uint64_t size = static_cast<std::uint64_t>(status.st_size);
  std::uint64_t at = lines_.empty() ? 0 : lines_.back().end;
  if (size == at && inode_ == status.st_ino) return false;
  bool changed = false;
  if (const std::size_t same = same_lines(fd.get(), size); same < lines_.size()) {
    cut(same);
    changed = true;
    at = lines_.empty() ? 0 : lines_.back().end;
  }
  inode_ = status.st_ino;
  const std::string text = detail::read_range(fd.get(), at, std::min(size, at + (8u << 20)));
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string_view line = std::string_view(text).substr(begin, end + 1 - begin);
    lines_.push_back({at + end + 1, detail::line_step(line), detail::line_hash(line)});
    changed = true;
  }
  return changed;
}

KDLIB_TOOLS_FUNC std::uint64_t MetricsTail::bytes(std::size_t first, std::size_t last) const {
  return first >= last ? 0 : lines_[last - 1].end - (first == 0 ? 0 : lines_[first - 1].end);
}

KDLIB_TOOLS_FUNC std::string MetricsTail::text(std::size_t first, std::size_t last) const {
  last = std::min(last, lines_.size());
  if (first >= last) return {};
  const detail::FileDescriptor fd = detail::open_descriptor(path_, O_RDONLY | O_NONBLOCK);
  if (!fd) return {};
  const std::uint64_t begin = first == 0 ? 0 : lines_[first - 1].end;
  std::string out = detail::read_range(fd.get(), begin, lines_[last - 1].end);
  return out.size() == lines_[last - 1].end - begin ? out : std::string();
}

KDLIB_TOOLS_FUNC std::size_t MetricsTail::find_step(std::int64_t step) const {
  const auto at = std::find_if(lines_.begin(), lines_.end(), [&](const MetricsLine& l) { return l.step >= step; });
  return static_cast<std::size_t>(at - lines_.begin());
}

KDLIB_TOOLS_FUNC std::size_t MetricsTail::kept_since(std::uint64_t generation) const {
  std::size_t kept = lines_.size();
  for (std::uint64_t g = generation; g < generation_; ++g) kept = std::min(kept, cuts_[static_cast<std::size_t>(g)]);
  return kept;
}

KDLIB_TOOLS_FUNC std::vector<std::size_t> keep_extremes(const std::vector<double>& values, std::size_t most) {
  std::vector<std::size_t> out;
  const std::size_t n = values.size(), stretches = most > 4 ? (most - 2) / 2 : 1;
  if (n <= most || n < 3) {
    for (std::size_t i = 0; i < n; ++i) out.push_back(i);
    return out;
  }
  out.push_back(0);
  for (std::size_t s = 0; s < stretches; ++s) {
    const std::size_t begin = 1 + s * (n - 2) / stretches, end = 1 + (s + 1) * (n - 2) / stretches;
    std::size_t low = n, high = n;
    for (std::size_t i = begin; i < end; ++i) {
      if (!std::isfinite(values[i])) continue;
      if (low == n || values[i] < values[low]) low = i;
      if (high == n || values[i] > values[high]) high = i;
    }
    if (low == n) continue;
    out.push_back(std::min(low, high));
    if (low != high) out.push_back(std::max(low, high));
  }
  out.push_back(n - 1);
  return out;
}

KDLIB_NAMESPACE_END

#endif
