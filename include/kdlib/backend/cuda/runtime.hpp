// SPDX-License-Identifier: Apache-2.0
// Streams, events, pinned memory and captured graphs of the CUDA backend, for every compiler. src/cuda/runtime.cpp
// defines them over the CUDA runtime, src/cuda_emulated/ over the emulated device.
//
// All kernels, products and copies between tensors go to the compute stream, in order. The copy stream is for copies
// beside it, which events order. Memory is given back in the order of the compute stream.
#ifndef KDLIB_BACKEND_CUDA_RUNTIME_HPP
#define KDLIB_BACKEND_CUDA_RUNTIME_HPP

#include <cstddef>
#include <memory>
#include <utility>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A cudaStream_t, or the emulated device's stream. While a thread captures a graph, its compute stream is another one,
/// which records.
void* compute_stream();
void* copy_stream();

/// Whether the kernels of this program were compiled for the current device (src/cuda/elementwise.cu).
bool has_device_kernels();

/// True where p is an address of the device.
bool is_device_memory(const void* p);

/// Whether a Memory<Cuda>::DryRun lives: then launches, products, copies, events and waits do nothing.
bool is_dry();

/// Whether this thread's work for the compute stream is recorded in a graph at present.
bool is_capturing();
/// BackendError while this thread's work is recorded in a graph: `what` would copy once and be replayed.
void refuse_while_capturing(const char* what);

/// Waits on the host for all work of a stream.
void synchronize_stream(void* stream);

/// A point in a stream.
class CudaEvent {
 public:
  CudaEvent();
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  void record(void* stream);
  /// Later work of `stream` begins after the recorded point; the host does not wait.
  void wait(void* stream) const;
  void synchronize() const;
  /// The device has come past the recorded point, or none was recorded.
  bool reached() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Host memory that copies of streams read and write. It must not change, or be read, before the copy has run.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Copies between a device and pinned memory that are queued on a stream.
void copy_to_device(void* to, const void* pinned, std::size_t bytes, void* stream);
void copy_to_host(void* pinned, const void* from, std::size_t bytes, void* stream);

/// While one lives, a call of this thread that would wait for the device is refused with BackendError: a training step
/// and a decoding step wait where they say so and nowhere else.
class NoSync {
 public:
  NoSync() { ++depth(); }
  ~NoSync() { --depth(); }
  NoSync(const NoSync&) = delete;
  NoSync& operator=(const NoSync&) = delete;
  static int& depth() {
    thread_local int depth = 0;
    return depth;
  }
};
/// Part of a step in which the host only queues work. A wait in it makes the step slower, not wrong, and some models
/// need one (codes that the host encodes), so it is refused only where is_strict() is set, as tests do.
class CudaQueuedPhase {
 public:
  CudaQueuedPhase() : strict_(is_strict()) { NoSync::depth() += strict_; }
  ~CudaQueuedPhase() { end(); }
  CudaQueuedPhase(const CudaQueuedPhase&) = delete;
  CudaQueuedPhase& operator=(const CudaQueuedPhase&) = delete;
  /// Ends the part before the object's life does.
  void end() {
    NoSync::depth() -= strict_;
    strict_ = false;
  }
  static bool& is_strict() {
    static bool strict = false;
    return strict;
  }

 private:
  bool strict_;
};
/// What every waiting call asks first; `what` names it.
inline void check_may_wait(const char* what) {
  require<BackendError>(NoSync::depth() == 0, "[cuda] ", what,
                        " waits for the device inside a NoSync guard; queue it, or wait where the step says so");
}

/// Device memory in which captured work finds its allocations. Several graphs may share it where their launches never
/// overlap: those of one stream do not.
class GraphMemory {
 public:
  explicit GraphMemory(std::size_t bytes);
  ~GraphMemory();
  GraphMemory(const GraphMemory&) = delete;
  GraphMemory& operator=(const GraphMemory&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Counts what this thread allocates while it lives: in a GraphMemory of bytes() the same work can be captured.
class GraphMemoryPlan {
 public:
  GraphMemoryPlan();
  ~GraphMemoryPlan();
  GraphMemoryPlan(const GraphMemoryPlan&) = delete;
  GraphMemoryPlan& operator=(const GraphMemoryPlan&) = delete;
  std::size_t bytes() const;
  /// Called by Memory<Cuda>.
  void allocated(void* p, std::size_t bytes);
  void released(void* p);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Work of one thread for the compute stream that is recorded once and launched many times. Other threads' work is not
/// recorded and goes on.
class CudaGraph {
 public:
  CudaGraph();
  ~CudaGraph();
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  /// Records what `work` queues; nothing of it runs. What it allocates lies in `memory`, which the graph keeps alive,
  /// and is given back inside of `work`: what is read behind a launch is allocated before. BackendError for allocations
  /// without or beyond that memory, for waits, blocking copies and products of shapes that never ran; the graph is
  /// empty then.
  template <class F>
  void capture(std::shared_ptr<GraphMemory> memory, F&& work) {
    begin(std::move(memory));
    try {
      work();
    } catch (...) {
      abandon();
      throw;
    }
    end();
  }
  bool captured() const;
  /// Queues the recorded work on the compute stream. BackendError where nothing was captured or, on the emulated
  /// device, memory that the work reads or writes was given back.
  void launch();

 private:
  void begin(std::shared_ptr<GraphMemory> memory);
  void end();
  void abandon() noexcept;

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
