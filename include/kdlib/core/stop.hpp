// SPDX-License-Identifier: Apache-2.0
// A request to stop, honoured between two kernels: a flag that one thread sets and the working thread looks at.
#ifndef KDLIB_CORE_STOP_HPP
#define KDLIB_CORE_STOP_HPP

#include <atomic>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Thrown where a request to stop is honoured, or by a callback that wants to end a run: what the step had taken is
/// given back, the state after the last complete step is saved, and the run answers `stopped`.
class StopRequested : public Error {
 public:
  using Error::Error;
};

namespace detail {
/// The flag that the calling thread looks at; nullptr: none.
inline const std::atomic<bool>*& stop_flag_of_thread() {
  static thread_local const std::atomic<bool>* flag = nullptr;
  return flag;
}
}  // namespace detail

/// While it lives, check_stop() on this thread, and on the workers of its parallel regions, looks at `flag`. Scopes
/// nest; nullptr shields what must not end half done (an update of weights, a checkpoint).
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

/// Throws StopRequested when the flag of the innermost scope is set. Every parallel region calls it before it starts,
/// loops over files, lines and weights once a piece: a layer of a model is the longest way between two calls.
inline void check_stop() {
  const std::atomic<bool>* flag = detail::stop_flag_of_thread();
  if (flag != nullptr && flag->load(std::memory_order_relaxed)) throw StopRequested("stopped on request");
}

KDLIB_NAMESPACE_END

#endif
