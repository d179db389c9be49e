// SPDX-License-Identifier: Apache-2.0
// Bodies of metrics.hpp.
#ifndef KDLIB_TRAIN_METRICS_INL_HPP
#define KDLIB_TRAIN_METRICS_INL_HPP

#include <algorithm>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/train/metrics.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC AppendFile open_metrics(const std::string& path) {
  make_directories(parent_path(path));
  return AppendFile(path);
}

/// The last line of `step` or before it; a line without its end is passed over.
KDLIB_FUNC LastMetricsLine last_metrics_line(const std::string& path, std::int64_t step) {
  const std::uint64_t total = file_size(path);
  LastMetricsLine last;
  LineReader lines(path);
  while (const auto line = lines.next()) {
    const std::uint64_t end = lines.line_offset() + line->size() + 1;
    if (end > total) break;  // the file ends inside this line
    constexpr std::string_view head = "{\"step\":";
    require<FormatError>(line->substr(0, head.size()) == head, "[metrics] ", lines.place(),
                         ": not a line of metrics; move this file away or choose another folder");
    const std::int64_t found = Json::parse(std::string(*line), lines.place()).at("step").as_int();
    if (found > step) break;
    last = {found, lines.line_offset(), end, std::string(*line)};
  }
  return last;
}
}  // namespace detail

KDLIB_FUNC JsonLines::JsonLines(const std::string& path) : file_(detail::open_metrics(path)) {}

KDLIB_FUNC void JsonLines::scalar(std::string_view name, std::int64_t step, double value) {
  if (step != step_ || line_.empty()) {
    end_line();
    step_ = step;
    line_ = step == last_.step ? last_.text.substr(0, last_.text.rfind('}')) : concat("{\"step\":", step);
  }
  JsonWriter text(JsonStyle{0, NonFinite::null});
  text.begin_object().member(name, value).end_object();
  line_ += ',';
  line_.append(text.text(), 1, text.text().size() - 2);
}

KDLIB_FUNC void JsonLines::end_line() {
  if (line_.empty()) return;
  if (step_ == last_.step) file_.truncate(last_.begin);  // the longer line takes its place
  last_ = {};
  file_.write_line(line_ + "}");
  line_.clear();
}

KDLIB_FUNC void JsonLines::flush() {
  end_line();
  file_.flush();
}

KDLIB_FUNC void JsonLines::rewind(std::int64_t step) {
  flush();
  last_ = detail::last_metrics_line(file_.path(), step);
  if (last_.end < file_.size()) file_.truncate(last_.end);
  step_ = -1;
}

KDLIB_FUNC void MemoryMetrics::rewind(std::int64_t step) {
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.step > step; }),
                 entries_.end());
}

KDLIB_FUNC std::vector<std::pair<std::int64_t, double>> MemoryMetrics::series(std::string_view name) const {
  std::vector<std::pair<std::int64_t, double>> out;
  for (const Entry& e : entries_)
    if (e.name == name) out.emplace_back(e.step, e.value);
  return out;
}

KDLIB_NAMESPACE_END

#endif
