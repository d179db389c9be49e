// SPDX-License-Identifier: Apache-2.0
// Memory of captured graphs, on a device and on the emulated one.
#include "graph_memory.hpp"

#include <mutex>
#include <utility>

#include "kdlib/backend/cuda.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

/// Blocks that outlived their capture, with the memory that they are in.
struct Outliving {
  std::mutex mutex;
  std::map<void*, std::shared_ptr<GraphMemory>> blocks;
};
Outliving& outliving() {
  static Outliving* const all = new Outliving;
  return *all;
}

}  // namespace

GraphMemory::GraphMemory(std::size_t bytes) : data_(Memory<Cuda>::allocate(bytes)), bytes_(bytes) {}
GraphMemory::~GraphMemory() { Memory<Cuda>::release(data_, bytes_); }

struct GraphMemoryPlan::State {
  GraphPlaces places;
  std::map<void*, std::size_t> blocks;
};
namespace {
GraphMemoryPlan*& current_plan() {
  thread_local GraphMemoryPlan* plan = nullptr;
  return plan;
}
}  // namespace

GraphMemoryPlan::GraphMemoryPlan() : state_(std::make_unique<State>()) {
  require<BackendError>(current_plan() == nullptr, "[cuda] a plan of a graph's memory begins inside of another one");
  current_plan() = this;
}
GraphMemoryPlan::~GraphMemoryPlan() { current_plan() = nullptr; }
std::size_t GraphMemoryPlan::bytes() const { return state_->places.end(); }
void GraphMemoryPlan::allocated(void* p, std::size_t bytes) { state_->blocks[p] = state_->places.allocate(bytes); }
void GraphMemoryPlan::released(void* p) {
  const auto block = state_->blocks.find(p);
  if (block == state_->blocks.end()) return;  // it is older than the plan
  state_->places.release(block->second);
  state_->blocks.erase(block);
}

void plan_allocation(void* p, std::size_t bytes) {
  if (current_plan() != nullptr) current_plan()->allocated(p, bytes);
}
void plan_release(void* p) {
  if (current_plan() != nullptr) current_plan()->released(p);
}

void* CaptureMemory::allocate(std::size_t bytes) {
  require<BackendError>(memory_ != nullptr, "[cuda] an allocation of ", bytes,
                        " bytes while a graph is captured that has no memory of its own: allocate before, or give the "
                        "capture a GraphMemory");
  const std::size_t at = places_.allocate(bytes);
  if (at + bytes > memory_->bytes()) {
    places_.release(at);
    fail<BackendError>("[cuda] an allocation of ", bytes, " bytes while a graph is captured does not fit into the ",
                       memory_->bytes(), " bytes of its memory: capture the work that the GraphMemoryPlan counted");
  }
  void* const p = static_cast<char*>(memory_->data()) + at;
  blocks_[p] = at;
  return p;
}
bool CaptureMemory::release(void* p) {
  const auto block = blocks_.find(p);
  if (block == blocks_.end()) return false;
  places_.release(block->second);
  blocks_.erase(block);
  return true;
}
std::size_t CaptureMemory::finish() {
  const std::size_t count = blocks_.size();
  const std::lock_guard<std::mutex> lock(outliving().mutex);
  for (const auto& [p, at] : blocks_) outliving().blocks.emplace(p, memory_);
  blocks_.clear();
  return count;
}
void check_capture_memory(std::size_t outliving) {
  require<BackendError>(outliving == 0, "[cuda] ", outliving, " block", outliving == 1 ? "" : "s",
                        " of memory that were allocated while a graph was captured outlive the capture: allocate "
                        "before what is read behind a launch");
}

CaptureMemory*& current_capture_memory() {
  thread_local CaptureMemory* memory = nullptr;
  return memory;
}
void* allocate_captured(std::size_t bytes) {
  return current_capture_memory() == nullptr ? nullptr : current_capture_memory()->allocate(bytes);
}
bool release_captured(void* p) {
  if (current_capture_memory() != nullptr && current_capture_memory()->release(p)) return true;
  std::shared_ptr<GraphMemory> last;  // gives its memory back behind the lock
  const std::lock_guard<std::mutex> lock(outliving().mutex);
  const auto block = outliving().blocks.find(p);
  if (block == outliving().blocks.end()) return false;
  last = std::move(block->second);
  outliving().blocks.erase(block);
  return true;
}

}  // namespace detail
KDLIB_NAMESPACE_END
