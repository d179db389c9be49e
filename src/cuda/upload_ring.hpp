// SPDX-License-Identifier: Apache-2.0
// Small copies from the host that nobody waits for: ids, positions, offsets, random numbers of a step.
#ifndef KDLIB_SRC_CUDA_UPLOAD_RING_HPP
#define KDLIB_SRC_CUDA_UPLOAD_RING_HPP

#include <cstddef>
#include <cstring>
#include <mutex>

#include "kdlib/backend/cuda/runtime.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Pinned memory in segments, which are filled one after the other. A copy takes the caller's bytes along at once, so
/// the caller may change them; a segment is filled again when the device has come past its last copy.
class UploadRing {
 public:
  static constexpr std::size_t segment_bytes = std::size_t{1} << 20, segments = 8, step = 64;
  static constexpr std::size_t largest = segment_bytes / 4;  // bytes of one copy

  /// Queues a copy of at most `largest` bytes on the compute stream. BackendError while a graph is captured.
  void copy(void* to, const void* from, std::size_t bytes) {
    refuse_while_capturing("Memory<Cuda>::from_host");
    const std::lock_guard<std::mutex> lock(mutex_);
    if (at_ + bytes > segment_bytes) begin_next();
    char* const slot = static_cast<char*>(memory_.data()) + segment_ * segment_bytes + at_;
    std::memcpy(slot, from, bytes);
    copy_to_device(to, slot, bytes, compute_stream());
    at_ += (bytes + step - 1) / step * step;
  }

 private:
  void begin_next() {
    const std::size_t next = (segment_ + 1) % segments;
    if (!ends_[next].reached()) ends_[next].synchronize();  // the ring is full: the device is a long way behind
    ends_[segment_].record(compute_stream());
    segment_ = next, at_ = 0;
  }

  std::mutex mutex_;
  PinnedMemory memory_{segments * segment_bytes};
  CudaEvent ends_[segments];  // behind the last copy of each segment
  std::size_t segment_ = 0, at_ = 0;
};

/// The one of this program, which outlives every tensor.
inline UploadRing& upload_ring() {
  static UploadRing* const ring = new UploadRing;
  return *ring;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
