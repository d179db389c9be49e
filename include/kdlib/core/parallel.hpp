// SPDX-License-Identifier: Apache-2.0
// One thread pool for the whole library. The division of work into parts depends only on the thread count, so results
// repeat bit for bit.
#ifndef KDLIB_CORE_PARALLEL_HPP
#define KDLIB_CORE_PARALLEL_HPP

#include <cstdint>
#include <memory>
#include <type_traits>

#include "kdlib/core/stop.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the number of threads that kernels use, including the calling thread. The default is the environment
/// variable KDLIB_NUM_THREADS, or else the number of CPUs that this process may run on.
int thread_count();

/// Sets the number of threads that kernels use (>= 1). Call set_thread_count() between operations, not inside one.
void set_thread_count(int threads);

namespace detail {
/// Calls body(context, part) for part in [0, parts), part 0 on the calling thread. Returns when all parts are done and
/// throws the exception of the lowest part that failed again. Inside a parallel region, or while another thread uses
/// the pool, every part runs on the calling thread.
void run_parts(int parts, void (*body)(void*, int), void* context);
}  // namespace detail

/// Calls f(part, parts) once for every part in [0, parts), concurrently, with parts = min(thread_count(), limit) but at
/// least 1. StopRequested: a stop was requested through the StopScope of the calling thread (core/stop.hpp); no part
/// has run then.
template <class F>
void parallel_parts(int limit, F&& f) {
  check_stop();
  const int threads = thread_count();
  const int parts = limit < threads ? (limit < 1 ? 1 : limit) : threads;
  struct Context {
    std::remove_reference_t<F>* f;
    int parts;
  } context{std::addressof(f), parts};
  detail::run_parts(
      parts, [](void* c, int part) { (*static_cast<Context*>(c)->f)(part, static_cast<Context*>(c)->parts); },
      &context);
}

/// Splits [0, count) into contiguous ranges, at most one for each thread, and calls f(begin, end) for each range
/// concurrently. Every range but the last has at least `grain` elements (>= 1).
template <class F>
void parallel_for(std::int64_t count, std::int64_t grain, F&& f) {
  if (count <= 0) return;
  const std::int64_t limit = (count + grain - 1) / grain;
  parallel_parts(limit > 1 << 20 ? 1 << 20 : static_cast<int>(limit), [&](int part, int parts) {
    const std::int64_t blocks = limit, first = blocks * part / parts, last = blocks * (part + 1) / parts;
    const std::int64_t begin = first * grain, end = last * grain < count ? last * grain : count;
    if (begin < end) f(begin, end);
  });
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/parallel_inl.hpp"
#endif

#endif
