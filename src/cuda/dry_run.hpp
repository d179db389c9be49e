// SPDX-License-Identifier: Apache-2.0
// The device that counts: memory of a reservation that nobody touches, handed out as the arena of a device does.
#ifndef KDLIB_SRC_CUDA_DRY_RUN_HPP
#define KDLIB_SRC_CUDA_DRY_RUN_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "arena.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One of a program, which outlives every tensor: what a dry run allocated may be given back after it.
class DryDevice {
 public:
  static DryDevice& one();

  bool holds(const void* p) const {
    return base_ != 0 && reinterpret_cast<std::uintptr_t>(p) - base_ < reservation_bytes;
  }
  /// BackendError where the reservation is used up.
  void* allocate(std::size_t bytes);
  void release(void* p);
  void begin();
  void end() { running_ = false; }
  bool running() const { return running_; }

  /// f(arena)
  template <class F>
  auto with_arena(F f) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return f(arena_);
  }

 private:
  static constexpr std::size_t reservation_bytes = std::size_t{1} << 42;
  void* take(std::size_t bytes);

  std::mutex mutex_;
  std::uintptr_t base_ = 0, next_ = 0;
  std::atomic<bool> running_{false};
  Arena arena_{[this](std::size_t bytes) { return take(bytes); }, [](void*) {}};
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
