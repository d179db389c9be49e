// SPDX-License-Identifier: Apache-2.0
// Shows a session on a terminal: notes, and a progress bar while text is written and steps are taken.
#ifndef KDLIB_TOOLS_DISTIL_CONSOLE_HPP
#define KDLIB_TOOLS_DISTIL_CONSOLE_HPP

#include "kdlib/recipe/events.hpp"
#include "kdlib/tools/progress.hpp"

KDLIB_NAMESPACE_BEGIN

/// Shows the events of a session on stderr and passes phases and writing reports on to another listener.
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

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/distil_console_inl.hpp"
#endif

#endif
