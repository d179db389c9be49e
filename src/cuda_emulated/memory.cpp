// SPDX-License-Identifier: Apache-2.0
#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "device.hpp"
#include "faults.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

constexpr std::size_t page = 4096, reserved_bytes = std::size_t{64} << 30;
constexpr unsigned char edge = 0xC5;        // of the bytes around an allocation
constexpr std::size_t front_edge = 64;      // bytes before it that are looked at
constexpr std::size_t most_dead = 1 << 14;  // allocations that were given back and are still known by name

std::size_t up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

bool is_mapped(std::uintptr_t address) {
  return ::msync(reinterpret_cast<void*>(address / page * page), page, MS_ASYNC) == 0 || errno != ENOMEM;
}

}  // namespace

std::string EmulatedAllocation::text() const { return concat("allocation ", serial, " of ", bytes, " bytes"); }

void EmulatedMemory::reserve() {
  if (base_ != 0) return;
  void* at = ::mmap(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require<BackendError>(at != MAP_FAILED, "[cuda emulated] no ", reserved_bytes >> 30, " GiB of address space");
  base_ = next_ = reinterpret_cast<std::uintptr_t>(at);
  size_ = reserved_bytes;
  opened_.reserve(1 << 16);  // a page fault must not allocate
}

void* EmulatedMemory::allocate(std::size_t bytes) {
  reserve();
  install_fault_handler();
  const std::int64_t total = emulated_settings().memory_bytes;
  require<BackendError>(static_cast<std::int64_t>(bytes) <= total - used, "[cuda] cannot allocate ", bytes,
                        " bytes: ", total - used, " of ", total, " are free; use a smaller batch, length or chunk");
  const std::size_t span = up(bytes, page) + page;  // and the page that closes it
  for (bool again = false;;) {
    if (next_ + span > base_ + size_) {
      require<BackendError>(!again, "[cuda emulated] no address space for ", bytes, " bytes");
      next_ = base_, again = true;
    }
    auto after = by_page_.lower_bound(next_);
    if (after != by_page_.begin()) {
      const EmulatedAllocation& before = std::prev(after)->second;
      if (!before.dead && before.end + page > next_) {
        next_ = before.end + page;
        continue;
      }
    }
    while (after != by_page_.end() && after->first < next_ + span && after->second.dead) after = by_page_.erase(after);
    if (after == by_page_.end() || after->first >= next_ + span) break;
    next_ = after->second.end + page;
  }
  if (by_page_.size() > most_dead + by_serial_.size()) {
    for (auto it = by_page_.begin(); it != by_page_.end();) it = it->second.dead ? by_page_.erase(it) : std::next(it);
  }
  EmulatedAllocation a;
  a.serial = ++serial_, a.bytes = bytes;
  a.pages = next_, a.end = next_ + span - page, a.data = a.end - up(bytes, 16);
  next_ += span;
  by_page_[a.pages] = a;
  by_serial_[a.serial] = a.pages;
  used += static_cast<std::int64_t>(bytes);
  return reinterpret_cast<void*>(a.data);
}

EmulatedAllocation* EmulatedMemory::find(std::uintptr_t address) {
  auto it = by_page_.upper_bound(address);
  if (it == by_page_.begin()) return nullptr;
  EmulatedAllocation& a = std::prev(it)->second;
  return address < a.end + page ? &a : nullptr;
}

void EmulatedMemory::release(void* p) {
  EmulatedAllocation* a = find(reinterpret_cast<std::uintptr_t>(p));
  if (a == nullptr || a->data != reinterpret_cast<std::uintptr_t>(p) || a->released)
    die(concat("[cuda emulated] memory is given back that was not allocated, or twice: ",
               a != nullptr ? a->text() : "no allocation"));
  a->released = true;
  by_serial_.erase(a->serial);
  used -= static_cast<std::int64_t>(a->bytes);
}

/// Nothing touches the pages again: they are given to the system and stay closed.
void EmulatedMemory::bury(std::uintptr_t data) {
  EmulatedAllocation* a = find(data);
  if (a == nullptr || a->dead) return;
  if (a->open) check_edges(*a);
  ::mprotect(reinterpret_cast<void*>(a->pages), a->end - a->pages, PROT_NONE);
  ::madvise(reinterpret_cast<void*>(a->pages), a->end - a->pages, MADV_DONTNEED);
  a->open = false, a->dead = true;
}

EmulatedAllocation& EmulatedMemory::require_range(const void* p, std::size_t bytes, const char* what) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  require<BackendError>(holds(at), "[cuda emulated] ", what, ": the address is not of the device");
  EmulatedAllocation* a = find(at);
  require<BackendError>(a != nullptr && at >= a->data && at + bytes <= a->data + a->bytes, "[cuda emulated] ", what,
                        ": ", bytes, " bytes from byte ", a == nullptr ? 0 : static_cast<std::int64_t>(at - a->data),
                        " of ", a == nullptr ? std::string("no allocation") : a->text());
  require<BackendError>(!a->released, "[cuda emulated] ", what, ": ", a->text(), " was given back");
  return *a;
}

std::vector<std::uint64_t> EmulatedMemory::scan(const std::vector<std::uint64_t>& words, const std::string& what) {
  std::vector<std::uint64_t> found;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint64_t word = words[i];
    if (word < (std::uint64_t{1} << 16) || word >> 47 != 0) continue;
    const auto address = static_cast<std::uintptr_t>(word);
    if (holds(address)) {
      EmulatedAllocation* a = find(address);
      // One past the end of an allocation is an address of an empty rest.
      require<BackendError>(a != nullptr && address >= a->data && address <= a->end, "[cuda emulated] word ", i,
                            " of the arguments of ", what, " is an address of the device where nothing was allocated");
      require<BackendError>(!a->released, "[cuda emulated] word ", i, " of the arguments of ", what, " points into ",
                            a->text(), ", which was given back");
      found.push_back(a->serial);
    } else if (is_mapped(address)) {
      fail<BackendError>("[cuda emulated] word ", i, " of the arguments of ", what,
                         " is an address of the host; a kernel reads device memory alone");
    }
  }
  return found;
}
bool EmulatedMemory::alive(std::uint64_t serial) const { return by_serial_.count(serial) != 0; }

void EmulatedMemory::open(EmulatedAllocation& a) {
  ::mprotect(reinterpret_cast<void*>(a.pages), a.end - a.pages, PROT_READ | PROT_WRITE);
  if (a.fresh) {
    std::memset(reinterpret_cast<void*>(a.pages), edge, a.data - a.pages);
    std::memset(reinterpret_cast<void*>(a.data), 0xFF, a.bytes);
    std::memset(reinterpret_cast<void*>(a.data + a.bytes), edge, a.end - a.data - a.bytes);
    a.fresh = false;
  }
  a.open = true;
  opened_.push_back(a.pages);
}

void EmulatedMemory::begin_work() {
  install_fault_handler();
  ++working_;
}
void EmulatedMemory::end_work() {
  if (--working_ > 0) return;
  std::string wrong;
  for (const std::uintptr_t pages : opened_) {
    const auto it = by_page_.find(pages);
    if (it == by_page_.end() || !it->second.open) continue;
    EmulatedAllocation& a = it->second;
    try {
      check_edges(a);
    } catch (const BackendError& e) {
      if (wrong.empty()) wrong = e.what();
    }
    ::mprotect(reinterpret_cast<void*>(a.pages), a.end - a.pages, PROT_NONE);
    a.open = false;
  }
  opened_.clear();
  if (!wrong.empty()) fail<BackendError>(wrong);
}

void EmulatedMemory::check_edges(const EmulatedAllocation& a) const {
  const auto* bytes = reinterpret_cast<unsigned char*>(a.data);
  for (std::size_t i = a.bytes; a.data + i < a.end; ++i)
    require<BackendError>(bytes[i] == edge, "[cuda emulated] byte ", i - a.bytes, " behind ", a.text(), " was written");
  const std::size_t before = a.data - a.pages < front_edge ? a.data - a.pages : front_edge;
  for (std::size_t i = 1; i <= before; ++i)
    require<BackendError>(bytes[-static_cast<std::ptrdiff_t>(i)] == edge, "[cuda emulated] the byte ", i, " before ",
                          a.text(), " was written");
}

bool EmulatedMemory::fault(std::uintptr_t address, char* text, std::size_t text_bytes) {
  EmulatedAllocation* a = find(address);
  const bool inside = a != nullptr && address >= a->pages && address < a->end;
  if (working_ > 0 && inside && !a->dead && !a->open) {
    open(*a);
    return true;
  }
  if (a == nullptr) {
    std::snprintf(text, text_bytes, "[cuda emulated] an access to device memory that nobody has allocated");
  } else {
    const char* what = a->dead ? "was given back" : working_ > 0 ? "ends before it" : "is device memory";
    std::snprintf(text, text_bytes, "[cuda emulated] %s touches byte %lld of allocation %llu of %zu bytes, which %s",
                  working_ > 0 ? "a kernel" : "the host", static_cast<long long>(address - a->data),
                  static_cast<unsigned long long>(a->serial), a->bytes, what);
  }
  return false;
}

}  // namespace detail
KDLIB_NAMESPACE_END
