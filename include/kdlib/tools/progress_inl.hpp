// SPDX-License-Identifier: Apache-2.0
// Bodies of progress.hpp.
#ifndef KDLIB_TOOLS_PROGRESS_INL_HPP
#define KDLIB_TOOLS_PROGRESS_INL_HPP

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/core/utf8.hpp"
#include "kdlib/tools/progress.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_TOOLS_FUNC int terminal_width(std::FILE* stream) {
  struct winsize size {};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col;
  return 80;
}

/// A number with `digits` behind the point.
KDLIB_TOOLS_FUNC std::string fixed_text(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}
}  // namespace detail

KDLIB_TOOLS_FUNC Progress::Progress(std::FILE* stream, double seconds_between)
    : stream_(stream), terminal_(::isatty(::fileno(stream)) == 1), seconds_between_(seconds_between) {}

KDLIB_TOOLS_FUNC std::string Progress::line(std::int64_t done, std::int64_t total, double seconds_left,
                                            std::string_view detail, int width) {
  const double share = total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0.0;
  const std::string head = concat(done, "/", total, " ");
  std::string tail = seconds_left >= 0 ? concat("  left ", duration_text(seconds_left)) : std::string();
  if (!detail.empty()) tail += concat("  ", detail);
  const int room = std::clamp(width - static_cast<int>(head.size() + tail.size()) - 3, 0, 40);
  std::string bar;
  if (room >= 5) {
    const auto full = static_cast<std::size_t>(share * room + 0.5);
    bar = concat("[", std::string(full, '#'), std::string(static_cast<std::size_t>(room) - full, '.'), "]");
  }
  std::string out = head + bar + tail;
  if (width > 0 && static_cast<int>(out.size()) >= width)
    out.resize(whole_characters(out, static_cast<std::size_t>(width - 1)).size());
  return out;
}

KDLIB_TOOLS_FUNC double Progress::seconds_left(std::int64_t done, std::int64_t total, double seconds) {
  if (first_done_ < 0 || done < first_done_) {
    first_done_ = done;
    first_seconds_ = seconds;
  }
  // Before a second point is known, the speed from the very start is the best guess.
  const bool measured = done > first_done_;
  const double steps = static_cast<double>(measured ? done - first_done_ : done),
               spent = measured ? seconds - first_seconds_ : seconds;
  return steps > 0 ? spent / steps * static_cast<double>(total - done) : -1;
}

KDLIB_TOOLS_FUNC void Progress::show(std::int64_t done, std::int64_t total, double seconds, std::string_view detail) {
  print("", done, total, seconds, detail);
}

KDLIB_TOOLS_FUNC void Progress::print(const char* unit, std::int64_t done, std::int64_t total, double seconds,
                                      std::string_view detail) {
  const double left = seconds_left(done, total, seconds);
  if (terminal_) {
    std::fprintf(stream_, "\r\033[K%s", line(done, total, left, detail, detail::terminal_width(stream_)).c_str());
    open_ = true;
  } else {
    if (last_shown_ >= 0 && done < total && seconds - last_shown_ < seconds_between_) return;
    last_shown_ = seconds;
    std::fprintf(stream_, "%s%lld of %lld%s%s  %.*s\n", unit, static_cast<long long>(done),
                 static_cast<long long>(total), left >= 0 ? "  left " : "",
                 left >= 0 ? duration_text(left).c_str() : "", static_cast<int>(detail.size()), detail.data());
  }
  std::fflush(stream_);
}

KDLIB_TOOLS_FUNC void Progress::show(const StepReport& report) {
  print("step ", report.step, report.steps, report.seconds,
        concat("loss ", detail::fixed_text(report.loss, 4), "  ",
               detail::fixed_text(report.tokens_per_s, report.tokens_per_s < 100 ? 1 : 0), " tokens/s"));
}

KDLIB_TOOLS_FUNC void Progress::note(std::string_view text) {
  if (terminal_ && open_) std::fputs("\r\033[K", stream_);
  open_ = false;
  std::fprintf(stream_, "%.*s\n", static_cast<int>(text.size()), text.data());
  std::fflush(stream_);
}

KDLIB_TOOLS_FUNC void Progress::finish() {
  if (terminal_ && open_) std::fputc('\n', stream_);
  open_ = false;
  std::fflush(stream_);
}

KDLIB_NAMESPACE_END

#endif
