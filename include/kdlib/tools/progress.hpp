// SPDX-License-Identifier: Apache-2.0
// Shows the progress of a run: on a terminal a bar with the remaining time, elsewhere plain lines.
#ifndef KDLIB_TOOLS_PROGRESS_HPP
#define KDLIB_TOOLS_PROGRESS_HPP

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "kdlib/recipe/number_text.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN

/// Writes the progress to `stream` (usually stderr). On a terminal one line is rewritten in place: bar, step, loss,
/// tokens/s and remaining time. Elsewhere a plain line is written at the first and the last step, and between them at
/// most once in `seconds_between` seconds.
class Progress {
 public:
  explicit Progress(std::FILE* stream = stderr, double seconds_between = 10);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { finish(); }

  /// Shows that `done` of `total` (> 0) is finished after `seconds` of work of this process. `detail` is shown behind
  /// the numbers.
  void show(std::int64_t done, std::int64_t total, double seconds, std::string_view detail);
  /// Shows a training step.
  void show(const StepReport& report);
  /// Writes a separate line above the bar.
  void note(std::string_view text);
  /// Ends the line of the bar. The next show() begins a new one.
  void finish();

  bool on_terminal() const { return terminal_; }
  /// Returns the line that show() writes, without control characters, for `width` columns.
  static std::string line(std::int64_t done, std::int64_t total, double seconds_left, std::string_view detail,
                          int width);

 private:
  double seconds_left(std::int64_t done, std::int64_t total, double seconds);
  /// `unit`, for example "step ", stands in front of the numbers of a plain line.
  void print(const char* unit, std::int64_t done, std::int64_t total, double seconds, std::string_view detail);

  std::FILE* stream_;
  bool terminal_;
  double seconds_between_;
  bool open_ = false;
  double last_shown_ = -1;
  std::int64_t first_done_ = -1;  // where this process started; a resumed run starts in the middle
  double first_seconds_ = 0;
};

/// Hooks for a run (RunSettings::hooks) that show the run's steps and messages on stderr.
class ShowProgress : public RunHooks {
 public:
  void on_step(const StepReport& report) override { progress_.show(report); }
  void on_message(const std::string& text) override { progress_.note(text); }

 private:
  Progress progress_;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/progress_inl.hpp"
#endif

#endif
