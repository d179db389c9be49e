// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM as a flag that a run looks at between two steps. The second signal ends the program at once.
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

/// Catches SIGINT and SIGTERM for its life: `settings.stop = signals.flag();`. Each is caught once: a second one has
/// its usual effect. `further` is set together with the flag: `StopSignals signals(&session.stop_flag());`.
class StopSignals {
 public:
  explicit StopSignals(std::atomic<bool>* further = nullptr);
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();

  const std::atomic<bool>* flag() const { return &detail::stop_flag(); }
  /// SIGINT or SIGTERM, 0 when none came.
  int signal() const { return detail::stop_signal_seen().load(); }
  /// Prints the sentence to stderr and answers 128 + the signal.
  int stopped_status(const char* sentence) const;

 private:
  struct sigaction interrupt_before_ {
  }, terminate_before_{};
};

/// Runs `work()`, which SIGINT and SIGTERM stop where it looks (check_stop). 0 when it ended by itself; else prints
/// `sentence`, what is kept and how to go on, to stderr and answers 128 + the signal, the exit status of a program.
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
