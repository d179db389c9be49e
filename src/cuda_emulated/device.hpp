// SPDX-License-Identifier: Apache-2.0
// The emulated device: its memory, its streams and what is being captured.
#ifndef KDLIB_SRC_CUDA_EMULATED_DEVICE_HPP
#define KDLIB_SRC_CUDA_EMULATED_DEVICE_HPP

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../cuda/arena.hpp"
#include "kdlib/backend/cuda/emulated/device.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/core/error.hpp"
#include "memory.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// How often a point was recorded, and how often the device came past it.
struct EmulatedEvent {
  std::uint64_t recorded = 0, reached = 0;
};

/// One piece of queued work: `run` is empty for records of and waits for an event.
struct EmulatedWork {
  std::function<void()> run;
  std::shared_ptr<EmulatedEvent> record, wait;
  std::uint64_t ticket = 0;
};

struct EmulatedStream {
  std::deque<EmulatedWork> queue;
};

/// Work of a graph, and the memory that it needs alive.
struct EmulatedCapture {
  std::vector<std::function<void()>> work;
  std::set<std::uint64_t> touched;  // serial numbers of allocations
};

class EmulatedDevice {
 public:
  std::recursive_mutex mutex;
  EmulatedMemory memory;
  EmulatedCounts counts;
  EmulatedStream compute, copy;
  /// What the arena of a device would do with the same requests, at addresses that mean nothing.
  std::uintptr_t next_piece = std::uintptr_t{1} << 50;
  Arena arena{
      [this](std::size_t bytes) { return reinterpret_cast<void*>(std::exchange(next_piece, next_piece + bytes)); },
      [](void*) {}};
  std::map<void*, void*> counted;  // allocation, place in that arena

  /// Of the thread that asks; nullptr where it captures nothing.
  static EmulatedCapture*& current_capture();
  EmulatedStream& stream(void* handle) { return handle == nullptr ? compute : *static_cast<EmulatedStream*>(handle); }
  /// Queues work of a stream, or records it in the graph that is being captured. `memory`: serial numbers of the
  /// allocations that it uses.
  void enqueue(void* stream, std::function<void()> run, const std::vector<std::uint64_t>& memory);
  /// Runs queued work, in the order of the settings, until `done`. The caller holds the mutex.
  void run_until(EmulatedStream* wanted, const std::function<bool()>& done);
  /// What every waiting call does first: refused under NoSync and while capturing.
  void begin_wait(const char* what);
  void wait_for(EmulatedStream& stream);
  void wait_for_all();

  std::uint64_t random();
  template <class X>
  void shuffle(std::vector<X>& list) {
    for (std::size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[random() % i]);
  }

 private:
  void run_one(EmulatedStream& stream);
  std::uint64_t state_ = 0;
};

EmulatedDevice& emulated_device();

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
