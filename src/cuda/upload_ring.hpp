// SPDX-License-Identifier: Apache-2.0
// Copies from the host that nobody waits for: ids, positions, offsets, random numbers of a step, and weights.
#ifndef KDLIB_SRC_CUDA_UPLOAD_RING_HPP
#define KDLIB_SRC_CUDA_UPLOAD_RING_HPP

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "kdlib/backend/cuda/runtime.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Pinned memory in segments, which are filled one after the other. A copy takes the caller's bytes along at once, so
/// the caller may change them; a segment is filled again when the device has come past its last copy. Where the device
/// is behind, another segment is pinned instead of waiting, up to `most_segments`; behind those the host waits for the
/// oldest one.
class UploadRing {
 public:
  static constexpr std::size_t segment_bytes = std::size_t{1} << 20, first_segments = 8, most_segments = 64, step = 64;

  /// Queues a copy on the compute stream. BackendError while a graph is captured, and under NoSync where it would wait.
  void copy(void* to, const void* from, std::size_t bytes) {
    refuse_while_capturing("Memory<Cuda>::from_host");
    const std::lock_guard<std::mutex> lock(mutex_);
    while (bytes > 0) {
      if (segments_.empty() || at_ == segment_bytes) begin_next();
      // Small copies stay whole; large ones go on in the next segment.
      if (bytes <= segment_bytes / 4 && at_ + bytes > segment_bytes) begin_next();
      const std::size_t part = std::min(bytes, segment_bytes - at_);
      char* const slot = static_cast<char*>(segments_[segment_]->memory.data()) + at_;
      std::memcpy(slot, from, part);
      copy_to_device(to, slot, part, compute_stream());
      at_ = std::min(segment_bytes, at_ + (part + step - 1) / step * step);
      to = static_cast<char*>(to) + part, from = static_cast<const char*>(from) + part, bytes -= part;
    }
  }

 private:
  struct Segment {
    PinnedMemory memory{segment_bytes};
    CudaEvent end;  // behind the last copy
  };

  void begin_next() {
    const std::size_t next = segments_.empty() ? 0 : (segment_ + 1) % segments_.size();
    const bool is_free = segments_.size() >= first_segments && segments_[next]->end.reached();
    const bool waits = !is_free && segments_.size() >= most_segments;  // the device is a long way behind
    if (waits) check_may_wait("a copy from the host behind 64 MiB that are on their way");
    if (!segments_.empty()) segments_[segment_]->end.record(compute_stream());
    if (waits) segments_[next]->end.synchronize();
    else if (!is_free)  // in front of the one that is still read, so that the order stays
      segments_.insert(segments_.begin() + static_cast<std::ptrdiff_t>(next), std::make_unique<Segment>());
    segment_ = next, at_ = 0;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Segment>> segments_;
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
