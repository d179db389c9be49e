// SPDX-License-Identifier: Apache-2.0
// Dry runs of the CUDA backend, on a device and on the emulated one.
#include "dry_run.hpp"

#include <sys/mman.h>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/runtime.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

DryDevice& DryDevice::one() {
  static DryDevice* const device = new DryDevice;
  return *device;
}

void* DryDevice::take(std::size_t bytes) {
  if (base_ == 0) {
    void* at = ::mmap(nullptr, reservation_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require<BackendError>(at != MAP_FAILED, "[cuda] a dry run needs ", reservation_bytes >> 30,
                          " GiB of address space, which the system does not give (ulimit -v)");
    base_ = next_ = reinterpret_cast<std::uintptr_t>(at);
  }
  if (bytes > base_ + reservation_bytes - next_) return nullptr;
  const std::uintptr_t at = next_;
  next_ += (bytes + Arena::step - 1) / Arena::step * Arena::step;
  return reinterpret_cast<void*>(at);
}

void* DryDevice::allocate(std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  void* const p = arena_.allocate(bytes);
  require<BackendError>(p != nullptr, "[cuda] a dry run cannot count ", bytes, " bytes more: ", arena_.reserved(),
                        " of ", reservation_bytes, " are counted");
  return p;
}
void DryDevice::release(void* p) {
  const std::lock_guard<std::mutex> lock(mutex_);
  arena_.release(p);
}
void DryDevice::begin() {
  require<BackendError>(!running_.exchange(true), "[cuda] a dry run begins inside of another one");
  const std::lock_guard<std::mutex> lock(mutex_);
  arena_.trim();  // pieces of earlier dry runs, so that the same run is counted alike every time
  if (arena_.reserved() == 0) next_ = base_;
  arena_.reset_peak();
}

bool is_dry() { return DryDevice::one().running(); }

}  // namespace detail

Memory<Cuda>::DryRun::DryRun() { detail::DryDevice::one().begin(); }
Memory<Cuda>::DryRun::~DryRun() { detail::DryDevice::one().end(); }
bool Memory<Cuda>::DryRun::lives() { return detail::is_dry(); }
CountedMemory Memory<Cuda>::DryRun::counted() const {
  return detail::DryDevice::one().with_arena([](const detail::Arena& a) { return detail::counted(a); });
}
void Memory<Cuda>::DryRun::reset_peak() {
  detail::DryDevice::one().with_arena([](detail::Arena& a) { a.reset_peak(); });
}

KDLIB_NAMESPACE_END
