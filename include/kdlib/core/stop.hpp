// SPDX-License-Identifier: Apache-2.0
// A request to stop, which is obeyed between two kernels. The request is a flag that one thread sets and the working
// thread reads.
#ifndef KDLIB_CORE_STOP_HPP
#define KDLIB_CORE_STOP_HPP

#include <atomic>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Thrown where a request to stop is obeyed, or by a callback that wants to end a run. A training run then gives back
/// the batches of the unfinished step, saves the state after the last complete step, and returns `stopped`.
class StopRequested : public Error {
 public:
  using Error::Error;
};

namespace detail {
/// Returns the flag that check_stop() reads on the calling thread; nullptr: no flag.
inline const std::atomic<bool>*& stop_flag_of_thread() {
  static thread_local const std::atomic<bool>* flag = nullptr;
  return flag;
}
}  // namespace detail

/// While a StopScope lives, check_stop() reads `flag` on this thread and on the workers of its parallel regions. Scopes
/// nest. A scope with nullptr protects work that must not end half done (an update of weights, a checkpoint).
class StopScope {
 public:
  explicit StopScope(const std::atomic<bool>* flag) : before_(detail::stop_flag_of_thread()) {
    detail::stop_flag_of_thread() = flag;
  }
  StopScope(const StopScope&) = delete;
  StopScope& operator=(const StopScope&) = delete;
  ~StopScope() { detail::stop_flag_of_thread() = before_; }

 private:
  const std::atomic<bool>* before_;
};

/// Throws StopRequested if the flag of the innermost StopScope is set. Every parallel region calls check_stop() before
/// it starts, and loops over files, lines and weights call it for every piece. The longest work between two calls is
/// one layer of a model.
inline void check_stop() {
  const std::atomic<bool>* flag = detail::stop_flag_of_thread();
  if (flag != nullptr && flag->load(std::memory_order_relaxed)) throw StopRequested("stopped on request");
}

KDLIB_NAMESPACE_END

#endif
