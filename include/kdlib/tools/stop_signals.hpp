// SPDX-License-Identifier: Apache-2.0
// Turns Ctrl-C and SIGTERM into a flag that a run checks between two steps. A second signal ends the program at once.
#ifndef KDLIB_TOOLS_STOP_SIGNALS_HPP
#define KDLIB_TOOLS_STOP_SIGNALS_HPP

#include <signal.h>

#include <atomic>
#include <utility>

#include "kdlib/core/stop.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
std::atomic<bool>& stop_flag();
std::atomic<int>& stop_signal_seen();
}  // namespace detail

/// Catches SIGINT and SIGTERM during the life of the object: `settings.stop = signals.flag();`. Each signal is caught
/// once; a second one of the same kind has its usual effect. `further` is a flag that is set together with flag():
/// `StopSignals signals(&session.stop_flag());`.
class StopSignals {
 public:
  explicit StopSignals(std::atomic<bool>* further = nullptr);
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();

  const std::atomic<bool>* flag() const { return &detail::stop_flag(); }
  /// Returns SIGINT or SIGTERM, or 0 if no signal came.
  int signal() const { return detail::stop_signal_seen().load(); }
  /// Prints the sentence to stderr and returns 128 + the number of the signal.
  int stopped_status(const char* sentence) const;

 private:
  struct sigaction interrupt_before_ {
  }, terminate_before_{};
};

/// Runs `work()`. SIGINT and SIGTERM stop the work where it calls check_stop. Returns 0 if the work ended by itself.
/// Otherwise prints `sentence`, which should say what is kept and how to continue, to stderr and returns 128 + the
/// number of the signal, which is the exit status of the program.
template <class Work>
int until_stopped(Work&& work, const char* sentence) {
  std::atomic<bool> stop{false};
  const StopSignals signals(&stop);
  const StopScope scope(&stop);
  try {
    std::forward<Work>(work)();
  } catch (const StopRequested&) {
    return signals.stopped_status(sentence);
  }
  return 0;
}

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/stop_signals_inl.hpp"
#endif

#endif
