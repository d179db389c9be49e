// SPDX-License-Identifier: Apache-2.0
// What a session reports while it runs.
#ifndef KDLIB_RECIPE_EVENTS_HPP
#define KDLIB_RECIPE_EVENTS_HPP

#include <cstdint>
#include <string>

#include "kdlib/recipe/result.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN

/// The phases of a session.
enum class SessionPhase : std::uint8_t {
  waiting,    // run() has not been called
  checking,   // settings, inputs and the folder
  loading,    // models and text files
  rounding,   // the student gets its trained form: codes, adapters
  measuring,  // the student before training; held-out text is written first if it is missing
  training,
  finishing,  // last measurements, and the files of the trained student
  finished,   // the result is there
  stopped,    // on request; a new run with the same settings continues
  failed      // run() threw
};
/// Returns the phase in one word, for displays.
const char* session_phase_name(SessionPhase phase);

/// Progress of text that a model writes.
struct WritingReport {
  const char* what = "";  // "the teacher writes", "the student writes", "the teacher writes held-out text"
  std::int64_t sequences = 0, finished = 0;
  std::int64_t new_tokens = 0;
  double seconds = 0;  // since this piece of writing began
};

/// Receives the events of a session. Every call comes from the thread that is in Session::run() or plan(), between two
/// pieces of work. An exception that a call throws ends the session. The defaults do nothing.
class SessionEvents {
 public:
  virtual ~SessionEvents() = default;
  virtual void on_phase(SessionPhase phase) { static_cast<void>(phase); }
  /// A sentence for the user: what is loaded, what is odd, a warning.
  virtual void on_note(const std::string& text) { static_cast<void>(text); }
  virtual void on_writing(const WritingReport& report) { static_cast<void>(report); }
  /// Called after each step.
  virtual void on_step(const StepReport& report) { static_cast<void>(report); }
  /// A measurement on held-out text after `step` steps.
  virtual void on_evaluation(std::int64_t step, const EvaluationRow& row) {
    static_cast<void>(step), static_cast<void>(row);
  }
  /// The checkpoint checkpoints/<step> is complete.
  virtual void on_checkpoint(std::int64_t step) { static_cast<void>(step); }
  /// result.json is written, or the result of an earlier run was read.
  virtual void on_result(const RecipeResult& result) { static_cast<void>(result); }
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/events_inl.hpp"
#endif

#endif
