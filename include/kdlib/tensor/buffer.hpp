// SPDX-License-Identifier: Apache-2.0
// Owned memory of a device, and a count of the bytes in use, so that peaks can be predicted and measured.
#ifndef KDLIB_TENSOR_BUFFER_HPP
#define KDLIB_TENSOR_BUFFER_HPP

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kdlib/core/error.hpp"
#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// Bytes that kdlib's tensors hold on one device: now, and at most since reset_peak().
struct MemoryUse {
  std::atomic<std::int64_t> now{0}, peak{0};

  void add(std::int64_t bytes) {
    const std::int64_t used = now.fetch_add(bytes) + bytes;
    std::int64_t seen = peak.load();
    while (used > seen && !peak.compare_exchange_weak(seen, used)) {
    }
  }
  void reset_peak() { peak.store(now.load()); }
};

/// Returns the count of bytes of all tensors on device D in this process.
template <class D>
MemoryUse& memory_use() {
  static MemoryUse use;
  return use;
}

template <>
struct Memory<Cpu> {
  static constexpr std::size_t alignment = 64;  // bytes: one cache line, one AVX-512 register

  static void* allocate(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    require<BackendError>(p != nullptr, "[allocate] the system refused ", bytes,
                          " bytes; use a smaller batch, length or chunk");
    memory_use<Cpu>().add(static_cast<std::int64_t>(bytes));
    return p;
  }
  static void release(void* p, std::size_t bytes) noexcept {
    if (p == nullptr) return;
    std::free(p);
    memory_use<Cpu>().now.fetch_sub(static_cast<std::int64_t>(bytes));
  }
  static void fill_zero(void* p, std::size_t bytes) {
    if (bytes != 0) std::memset(p, 0, bytes);
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  static void from_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  static void to_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
};

/// Uninitialised memory for `count` elements of T. A Buffer can be moved, not copied.
template <class T, class D>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t count) : data_(static_cast<T*>(Memory<D>::allocate(bytes_for(count)))), count_(count) {}
  Buffer(Buffer&& o) noexcept : data_(o.data_), count_(o.count_) { o.data_ = nullptr, o.count_ = 0; }
  Buffer& operator=(Buffer&& o) noexcept {
    if (this != &o) {
      release();
      data_ = o.data_, count_ = o.count_;
      o.data_ = nullptr, o.count_ = 0;
    }
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(); }

  T* data() const { return data_; }
  std::int64_t count() const { return count_; }

 private:
  static std::size_t bytes_for(std::int64_t count) {
    require<ShapeError>(count >= 0, "[Buffer] negative element count ", count);
    return static_cast<std::size_t>(count) * sizeof(T);
  }
  void release() noexcept { Memory<D>::release(data_, static_cast<std::size_t>(count_) * sizeof(T)); }

  T* data_ = nullptr;
  std::int64_t count_ = 0;
};

KDLIB_NAMESPACE_END

#endif
