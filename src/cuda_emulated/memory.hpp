// SPDX-License-Identifier: Apache-2.0
// Memory of the emulated device. Each allocation ends at a page that nothing may touch, holds 0xFF when it is fresh and
// is closed to the host: only work of the device opens it, page faults tell which allocations work touches.
#ifndef KDLIB_SRC_CUDA_EMULATED_MEMORY_HPP
#define KDLIB_SRC_CUDA_EMULATED_MEMORY_HPP

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct EmulatedAllocation {
  std::uint64_t serial = 0;
  std::uintptr_t pages = 0, data = 0, end = 0;  // first page, first byte, first byte of the page that closes it
  std::size_t bytes = 0;
  bool released = false;  // the host gave it back
  bool dead = false;      // and the device came past that point
  bool open = false, fresh = true;

  std::string text() const;
};

class EmulatedMemory {
 public:
  void* allocate(std::size_t bytes);
  /// The host's part of giving back; the device's follows in the order of the compute stream.
  void release(void* p);
  void bury(std::uintptr_t data);
  bool holds(std::uintptr_t address) const { return address - base_ < size_ && base_ != 0; }
  EmulatedAllocation* find(std::uintptr_t address);
  /// The allocation of [p, p + bytes), or BackendError naming `what`.
  EmulatedAllocation& require_range(const void* p, std::size_t bytes, const char* what);
  /// Looks at the words of arguments: an address of the host, or of memory that was given back, is refused;
  /// the serial numbers of the device's allocations among them are returned.
  std::vector<std::uint64_t> scan(const std::vector<std::uint64_t>& words, const std::string& what);
  bool alive(std::uint64_t serial) const;

  /// Device code runs between the two; end_work() checks what was written beside the allocations.
  void begin_work();
  void end_work();
  /// What a page fault at `address` means; true where the access may go on. Called by the signal's handler.
  bool fault(std::uintptr_t address, char* text, std::size_t text_bytes);

  std::int64_t used = 0;

 private:
  void reserve();
  void open(EmulatedAllocation& a);
  void check_edges(const EmulatedAllocation& a) const;

  std::uintptr_t base_ = 0, next_ = 0;
  std::size_t size_ = 0;
  std::map<std::uintptr_t, EmulatedAllocation> by_page_;
  std::map<std::uint64_t, std::uintptr_t> by_serial_;  // of those that were not given back
  std::vector<std::uintptr_t> opened_;
  std::uint64_t serial_ = 0;
  int working_ = 0;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
