// SPDX-License-Identifier: Apache-2.0
// Progress of a run: a bar with the time that is left on a terminal, plain lines elsewhere.
#ifndef KDLIB_TOOLS_PROGRESS_HPP
#define KDLIB_TOOLS_PROGRESS_HPP

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "kdlib/recipe/number_text.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN

/// Writes to `stream` (stderr as a rule). On a terminal one line is rewritten in place: bar, step, loss, tokens/s, time
/// left. Elsewhere a plain line is written at the first and last step and at most every `seconds_between` in between.
class Progress {
 public:
  explicit Progress(std::FILE* stream = stderr, double seconds_between = 10);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { finish(); }

  /// `done` of `total` (> 0) is finished after `seconds` of this process's work; `detail` is shown behind the numbers.
  void show(std::int64_t done, std::int64_t total, double seconds, std::string_view detail);
  /// The same for a training step.
  void show(const StepReport& report);
  /// A line of its own, above the bar.
  void note(std::string_view text);
  /// Ends the line of the bar. The next show() begins a new one.
  void finish();

  bool on_terminal() const { return terminal_; }
  /// The line that show() writes, without control characters, for `width` columns.
  static std::string line(std::int64_t done, std::int64_t total, double seconds_left, std::string_view detail,
                          int width);

 private:
  double seconds_left(std::int64_t done, std::int64_t total, double seconds);
  /// `unit`: in front of a plain line's numbers, as "step ".
  void print(const char* unit, std::int64_t done, std::int64_t total, double seconds, std::string_view detail);

  std::FILE* stream_;
  bool terminal_;
  double seconds_between_;
  bool open_ = false;
  double last_shown_ = -1;
  std::int64_t first_done_ = -1;  // a resumed run starts in the middle: its speed is measured from there
  double first_seconds_ = 0;
};

/// Hooks of a run (RunSettings::hooks) that show its steps and sentences on stderr.
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
