// SPDX-License-Identifier: Apache-2.0
// Bodies of stop_signals.hpp.
#ifndef KDLIB_TOOLS_STOP_SIGNALS_INL_HPP
#define KDLIB_TOOLS_STOP_SIGNALS_INL_HPP

#include <signal.h>

#include <cstdio>

#include "kdlib/tools/stop_signals.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_TOOLS_FUNC std::atomic<bool>& stop_flag() {
  static std::atomic<bool> flag{false};
  return flag;
}
KDLIB_TOOLS_FUNC std::atomic<int>& stop_signal_seen() {
  static std::atomic<int> number{0};
  return number;
}
/// A flag of the caller that is set, too.
KDLIB_TOOLS_FUNC std::atomic<std::atomic<bool>*>& further_stop_flag() {
  static std::atomic<std::atomic<bool>*> flag{nullptr};
  return flag;
}
KDLIB_TOOLS_FUNC void on_stop_signal(int number) {
  stop_flag().store(true);
  if (std::atomic<bool>* further = further_stop_flag().load()) further->store(true);
  stop_signal_seen().store(number);
}
}  // namespace detail

KDLIB_TOOLS_FUNC StopSignals::StopSignals(std::atomic<bool>* further) {
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

KDLIB_TOOLS_FUNC StopSignals::~StopSignals() {
  ::sigaction(SIGINT, &interrupt_before_, nullptr);
  ::sigaction(SIGTERM, &terminate_before_, nullptr);
  detail::further_stop_flag().store(nullptr);
}

KDLIB_TOOLS_FUNC int StopSignals::stopped_status(const char* sentence) const {
  std::fprintf(stderr, "%s\n", sentence);
  return 128 + signal();
}

KDLIB_NAMESPACE_END

#endif
