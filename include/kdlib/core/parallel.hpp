// SPDX-License-Identifier: Apache-2.0
// One thread pool for the whole library. The partition depends on the thread count alone, so results repeat bit for
// bit.
#ifndef KDLIB_CORE_PARALLEL_HPP
#define KDLIB_CORE_PARALLEL_HPP

#include <cstdint>
#include <memory>
#include <type_traits>

#include "kdlib/core/stop.hpp"

KDLIB_NAMESPACE_BEGIN

/// Number of threads that kernels use, the calling one included. Default: KDLIB_NUM_THREADS, else the CPUs this process
/// may run on.
int thread_count();

/// Sets it (>= 1). Call it between operations, not inside one.
void set_thread_count(int threads);

namespace detail {
/// Calls body(context, part) for part in [0, parts), part 0 on the calling thread; returns when all are done and
/// rethrows the first exception by part number. Inside a running parallel region it runs every part on the calling
/// thread.
void run_parts(int parts, void (*body)(void*, int), void* context);
}  // namespace detail

/// Calls f(part, parts) once for every part in [0, parts), parts = min(thread_count(), limit), concurrently.
/// StopRequested, before it begins, where the calling thread's StopScope has been asked to stop.
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

/// Splits [0, count) into contiguous ranges, one a thread and none below `grain` elements (>= 1) but the last, and
/// calls f(begin, end).
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
