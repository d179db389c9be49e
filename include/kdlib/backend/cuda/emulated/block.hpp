// SPDX-License-Identifier: Apache-2.0
// The Block of the emulated device (kdlib/backend/cuda/block.hpp says what kernels may ask of it).
#ifndef KDLIB_BACKEND_CUDA_EMULATED_BLOCK_HPP
#define KDLIB_BACKEND_CUDA_EMULATED_BLOCK_HPP

#include <cstring>

#include "kdlib/backend/cuda/emulated/threads.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Shared memory in which every access is checked and noted.
template <class X>
class EmulatedShared {
 public:
  static_assert(sizeof(X) % 4 == 0, "shared memory is noted by words of 4 bytes: pack 16-bit numbers in words");

  class Reference {
   public:
    Reference(const EmulatedShared& array, std::int64_t i) : array_(array), i_(i) {}
    Reference(const Reference&) = default;
    operator X() const { return array_.read(i_); }
    Reference& operator=(const X& x) {
      array_.write(i_) = x;
      return *this;
    }
    Reference& operator=(const Reference& o) { return *this = static_cast<X>(o); }
    Reference& operator+=(const X& x) { return *this = static_cast<X>(*this) + x; }
    Reference& operator-=(const X& x) { return *this = static_cast<X>(*this) - x; }
    Reference& operator*=(const X& x) { return *this = static_cast<X>(*this) * x; }

   private:
    const EmulatedShared& array_;
    std::int64_t i_;
  };

  EmulatedShared() = default;
  EmulatedShared(EmulatedThreads& threads, X* data, std::int64_t count)
      : threads_(&threads), data_(data), count_(count) {}
  Reference operator[](std::int64_t i) const { return Reference(*this, i); }
  const X& read(std::int64_t i) const { return *read(i, 1); }
  X& write(std::int64_t i) const { return *write(i, 1); }
  const X* read(std::int64_t i, std::int64_t n) const {
    if (i < 0 || i + n > count_) threads_->out_of_range(i, i + n, count_);
    threads_->note_read(threads_->offset_of(data_ + i), n * static_cast<std::int64_t>(sizeof(X)));
    return data_ + i;
  }
  X* write(std::int64_t i, std::int64_t n) const {
    if (i < 0 || i + n > count_) threads_->out_of_range(i, i + n, count_);
    threads_->note_write(threads_->offset_of(data_ + i), n * static_cast<std::int64_t>(sizeof(X)));
    return data_ + i;
  }

 private:
  EmulatedThreads* threads_ = nullptr;
  X* data_ = nullptr;
  std::int64_t count_ = 0;
};

class EmulatedBlock {
 public:
  template <class X>
  using Shared = EmulatedShared<X>;

  explicit EmulatedBlock(EmulatedThreads& threads) : threads_(threads), thread_(threads.thread()) {}
  std::int64_t block() const { return threads_.block(); }
  std::int64_t block_y() const { return threads_.block_y(); }
  std::int64_t blocks() const { return threads_.shape().blocks; }
  std::int64_t thread() const { return thread_; }
  std::int64_t size() const { return threads_.shape().threads; }
  void barrier() { threads_.barrier(); }
  void warp_barrier() { threads_.warp_barrier(); }
  template <class X>
  Shared<X> shared(std::int64_t offset, std::int64_t count) {
    return Shared<X>(threads_, reinterpret_cast<X*>(threads_.shared(offset, count, sizeof(X), alignof(X))), count);
  }
  template <class X>
  X shuffle_down(const X& x, int offset) {
    return exchange(x, offset, "shuffle_down", [](EmulatedWarpCall* const* lanes) {
      gather(lanes, [](int lane, int by) { return lane + by < warp_threads ? lane + by : lane; });
    });
  }
  template <class X>
  X shuffle_xor(const X& x, int mask) {
    return exchange(x, mask, "shuffle_xor",
                    [](EmulatedWarpCall* const* lanes) { gather(lanes, [](int lane, int by) { return lane ^ by; }); });
  }
  template <class X>
  X shuffle(const X& x, int from) {
    return exchange(x, from, "shuffle",
                    [](EmulatedWarpCall* const* lanes) { gather(lanes, [](int, int by) { return by; }); });
  }
  std::uint32_t ballot(bool p) {
    std::uint32_t out = 0;
    EmulatedWarpCall call;
    call.what = "ballot", call.argument = p ? 1 : 0, call.out = &out;
    call.run = [](EmulatedWarpCall* const* lanes) {
      std::uint32_t all = 0;
      for (int l = 0; l < warp_threads; ++l) all |= lanes[l]->argument != 0 ? std::uint32_t{1} << l : 0u;
      for (int l = 0; l < warp_threads; ++l) *static_cast<std::uint32_t*>(lanes[l]->out) = all;
    };
    threads_.warp_call(call);
    return out;
  }
  std::int32_t atomic_add(std::int32_t* at, std::int32_t x) {
    const std::int32_t old = *at;
    *at += x;
    return old;
  }
  std::int32_t atomic_or(std::int32_t* at, std::int32_t x) {
    const std::int32_t old = *at;
    *at |= x;
    return old;
  }

 private:
  template <class F>
  static void gather(EmulatedWarpCall* const* lanes, F source) {
    for (int l = 0; l < warp_threads; ++l) {
      const int from = source(l, lanes[l]->argument);
      require<BackendError>(from >= 0 && from < warp_threads, "[cuda emulated] ", lanes[l]->what, " of lane ", from,
                            "; a warp has 32");
      std::memcpy(lanes[l]->out, lanes[from]->in, lanes[l]->bytes);
    }
  }
  template <class X>
  X exchange(const X& x, int argument, const char* what, void (*run)(EmulatedWarpCall* const*)) {
    static_assert(std::is_trivially_copyable_v<X>);
    X in = x, out = x;
    EmulatedWarpCall call;
    call.run = run, call.what = what, call.in = &in, call.out = &out, call.bytes = sizeof(X), call.argument = argument;
    threads_.warp_call(call);
    return out;
  }

  EmulatedThreads& threads_;
  int thread_;
};

static_assert(Block<EmulatedBlock>, "the emulated block has what kernels are written against");

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
