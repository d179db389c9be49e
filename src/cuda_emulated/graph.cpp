// SPDX-License-Identifier: Apache-2.0
// Graphs of the emulated device: the queued work of a thread, kept and queued again.
#include <memory>
#include <utility>

#include "../cuda/graph_memory.hpp"
#include "device.hpp"
#include "kdlib/backend/cuda.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct CudaGraph::State {
  std::shared_ptr<GraphMemory> memory;
  std::unique_ptr<CaptureMemory> allocations;  // while it is recorded
  EmulatedCapture capture;
  enum { empty, recorded, recorded_dry } is = empty;
};
CudaGraph::CudaGraph() : state_(std::make_unique<State>()) {}
CudaGraph::~CudaGraph() = default;
bool CudaGraph::captured() const { return state_->is != State::empty; }
void CudaGraph::begin(std::shared_ptr<GraphMemory> memory) {
  require<BackendError>(current_capture_memory() == nullptr, "[cuda] this thread captures a graph already");
  state_ = std::make_unique<State>();
  state_->allocations = std::make_unique<CaptureMemory>(memory);
  state_->memory = std::move(memory);
  current_capture_memory() = state_->allocations.get();
  if (!is_dry()) EmulatedDevice::current_capture() = &state_->capture;
}
void CudaGraph::end() {
  EmulatedDevice& d = emulated_device();
  const std::lock_guard<std::recursive_mutex> lock(d.mutex);
  const bool dry = std::exchange(EmulatedDevice::current_capture(), nullptr) == nullptr;
  current_capture_memory() = nullptr;
  check_capture_memory(std::exchange(state_->allocations, nullptr)->finish());
  if (!dry) ++d.counts.captures;
  state_->is = dry ? State::recorded_dry : State::recorded;
}
void CudaGraph::abandon() noexcept {
  EmulatedDevice::current_capture() = nullptr;
  current_capture_memory() = nullptr;
  std::exchange(state_->allocations, nullptr)->finish();
  state_->capture = {};
}
void CudaGraph::launch() {
  require<BackendError>(captured(), "[cuda] a graph is launched that was not captured");
  if (is_dry()) return;
  require<BackendError>(state_->is == State::recorded, "[cuda] a graph of a dry run is launched behind it");
  require<BackendError>(!is_capturing(), "[cuda] a graph is launched while another one is captured");
  EmulatedDevice& d = emulated_device();
  const std::lock_guard<std::recursive_mutex> lock(d.mutex);
  for (const std::uint64_t serial : state_->capture.touched)
    require<BackendError>(d.memory.alive(serial), "[cuda] a captured graph uses allocation ", serial,
                          ", which was given back; capture it again");
  for (const auto& work : state_->capture.work) d.enqueue(nullptr, work, {});
  ++d.counts.graph_launches;
}

}  // namespace detail
KDLIB_NAMESPACE_END
