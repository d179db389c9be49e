// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM as a flag that a run looks at between two steps. The second signal ends the program at once.
#ifndef KDLIB_TOOLS_STOP_SIGNALS_HPP
#define KDLIB_TOOLS_STOP_SIGNALS_HPP

#include <signal.h>

#include <atomic>
#include <cstdio>
#include <utility>

#include "kdlib/core/stop.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline std::atomic<bool>& stop_flag() {
  static std::atomic<bool> flag{false};
  return flag;
}
inline std::atomic<int>& stop_signal_seen() {
  static std::atomic<int> number{0};
  return number;
}
/// A flag of the caller that is set, too.
inline std::atomic<std::atomic<bool>*>& further_stop_flag() {
  static std::atomic<std::atomic<bool>*> flag{nullptr};
  return flag;
}
inline void on_stop_signal(int number) {
  stop_flag().store(true);
  if (std::atomic<bool>* further = further_stop_flag().load()) further->store(true);
  stop_signal_seen().store(number);
}
}  // namespace detail

/// Catches SIGINT and SIGTERM for its life: `settings.stop = signals.flag();`. Each is caught once: a second one has
/// its usual effect. `further` is set together with the flag: `StopSignals signals(&session.stop_flag());`.
class StopSignals {
 public:
  explicit StopSignals(std::atomic<bool>* further = nullptr) {
    static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
                  "a signal handler may only touch lock-free atomics");
    detail::stop_flag().store(false);
    detail::stop_signal_seen().store(0);
    detail::further_stop_flag().store(further);
    struct sigaction action {};
    action.sa_handler = detail::on_stop_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, &interrupt_before_);
    ::sigaction(SIGTERM, &action, &terminate_before_);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals() {
    ::sigaction(SIGINT, &interrupt_before_, nullptr);
    ::sigaction(SIGTERM, &terminate_before_, nullptr);
    detail::further_stop_flag().store(nullptr);
  }

  const std::atomic<bool>* flag() const { return &detail::stop_flag(); }
  /// SIGINT or SIGTERM, 0 when none came.
  int signal() const { return detail::stop_signal_seen().load(); }

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
    std::fprintf(stderr, "%s\n", sentence);
    return 128 + signals.signal();
  }
  return 0;
}

KDLIB_NAMESPACE_END

#endif
