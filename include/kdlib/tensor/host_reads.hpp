// SPDX-License-Identifier: Apache-2.0
// Several arrays of a device that the host reads together, so that the host waits for the device only once.
#ifndef KDLIB_TENSOR_HOST_READS_HPP
#define KDLIB_TENSOR_HOST_READS_HPP

#include <cstdint>
#include <vector>

#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN

/// A list of arrays to read. add() names an array; wait() reads all of them, with the values after everything queued
/// before has run. Source and destination of each array must exist until then.
template <class D>
class HostReads {
 public:
  template <class X>
  void add(const X* from, std::int64_t count, X* to) {
    if (count > 0) parts_.push_back({from, to, static_cast<std::size_t>(count) * sizeof(X)});
  }

  /// Fills the arrays of the host. Waits for the device at most once.
  void wait() {
    if constexpr (std::is_same_v<D, Cpu>) {
      for (const Part& p : parts_) Memory<D>::to_host(p.to, p.from, p.bytes);
    } else if (parts_.size() == 1) {
      Memory<D>::to_host(parts_[0].to, parts_[0].from, parts_[0].bytes);
    } else if (!parts_.empty()) {
      read_together();
    }
    parts_.clear();
  }

 private:
  struct Part {
    const void* from;
    void* to;
    std::size_t bytes;
  };

  void read_together() {
    std::size_t total = 0;
    for (const Part& p : parts_) total += p.bytes;
    const Buffer<std::byte, D> there(static_cast<std::int64_t>(total));
    std::vector<std::byte> here(total);
    std::size_t at = 0;
    for (const Part& p : parts_) Memory<D>::copy(there.data() + at, p.from, p.bytes), at += p.bytes;
    Memory<D>::to_host(here.data(), there.data(), total);
    at = 0;
    for (const Part& p : parts_) std::memcpy(p.to, here.data() + at, p.bytes), at += p.bytes;
  }

  std::vector<Part> parts_;
};

KDLIB_NAMESPACE_END

#endif
