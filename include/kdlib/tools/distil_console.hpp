// SPDX-License-Identifier: Apache-2.0
// What a terminal shows of a session: notes, a bar while text is written and steps are taken.
#ifndef KDLIB_TOOLS_DISTIL_CONSOLE_HPP
#define KDLIB_TOOLS_DISTIL_CONSOLE_HPP

#include "kdlib/recipe/events.hpp"
#include "kdlib/tools/progress.hpp"

KDLIB_NAMESPACE_BEGIN

/// Events of a session on stderr, and for whoever else listens.
class DistilConsole final : public SessionEvents {
 public:
  explicit DistilConsole(SessionEvents* also = nullptr) : also_(also) {}

  void on_phase(SessionPhase phase) override {
    if (also_ != nullptr) also_->on_phase(phase);
  }
  void on_note(const std::string& text) override { progress_.note(text); }
  void on_step(const StepReport& report) override { progress_.show(report); }
  void on_writing(const WritingReport& report) override;

  /// Ends the line of the bar.
  void finish() { progress_.finish(); }

 private:
  SessionEvents* also_;
  Progress progress_;
};

inline void DistilConsole::on_writing(const WritingReport& r) {
  if (also_ != nullptr) also_->on_writing(r);
  if (r.finished >= r.sequences) return progress_.finish();
  const double rate = r.seconds > 0 ? static_cast<double>(r.new_tokens) / r.seconds : 0;
  progress_.show(r.finished, r.sequences, r.seconds,
                 concat(r.what, ", ", r.new_tokens, " tokens",
                        rate > 0 ? concat(", ", static_cast<std::int64_t>(rate), " tokens/s") : ""));
}

KDLIB_NAMESPACE_END

#endif
