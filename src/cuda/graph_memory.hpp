// SPDX-License-Identifier: Apache-2.0
// Where captured work finds its memory: every allocation of a capture is a place in the GraphMemory of its graph, so
// that addresses stay valid when the graph is launched. Knows nothing of CUDA: devices, emulated ones and those that
// count share it.
#ifndef KDLIB_SRC_CUDA_GRAPH_MEMORY_HPP
#define KDLIB_SRC_CUDA_GRAPH_MEMORY_HPP

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "arena.hpp"
#include "kdlib/backend/cuda/runtime.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Places of blocks as offsets in a memory without an end, by the rule of the arena. Equal requests in equal order get
/// equal places: those of a plan are those of the capture behind it.
class GraphPlaces {
 public:
  std::size_t allocate(std::size_t bytes) {
    const std::size_t at = reinterpret_cast<std::uintptr_t>(arena_.allocate(bytes)) - begin;
    const std::size_t end = at + (bytes + Arena::step - 1) / Arena::step * Arena::step;
    if (end > end_) end_ = end;
    return at;
  }
  void release(std::size_t at) { arena_.release(reinterpret_cast<void*>(begin + at)); }
  std::size_t end() const { return end_; }  // behind the last place that was ever given

 private:
  static constexpr std::uintptr_t begin = std::uintptr_t{1} << 46;

  std::size_t end_ = 0;
  Arena arena_{[](std::size_t) { return reinterpret_cast<void*>(begin); }, [](void*) {}, std::size_t{1} << 46};
};

/// The allocations of one capture.
class CaptureMemory {
 public:
  explicit CaptureMemory(std::shared_ptr<GraphMemory> memory) : memory_(std::move(memory)) {}

  /// BackendError where the capture has no memory, or not as much.
  void* allocate(std::size_t bytes);
  /// False where the address is not of a block of this capture.
  bool release(void* p);
  /// The capture has ended. Says how many blocks are still in use; each keeps the memory alive.
  std::size_t finish();

 private:
  std::shared_ptr<GraphMemory> memory_;
  GraphPlaces places_;
  std::map<void*, std::size_t> blocks_;  // in use, with their places
};

/// BackendError where blocks outlived their capture.
void check_capture_memory(std::size_t outliving);

/// What Memory<Cuda> asks of this thread. allocate_captured: memory of the capture, nullptr where there is none.
void* allocate_captured(std::size_t bytes);
/// True where the address was of a capture, which has taken it back.
bool release_captured(void* p);
/// Tells the plan of this thread, where one lives.
void plan_allocation(void* p, std::size_t bytes);
void plan_release(void* p);

/// The capture of this thread: set by CudaGraph.
CaptureMemory*& current_capture_memory();

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
