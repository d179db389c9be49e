// SPDX-License-Identifier: Apache-2.0
// Device memory, streams, events, graphs and the texts of kdlib::cuda.
#include "kdlib/backend/cuda/runtime.hpp"

#include <cstring>
#include <limits>
#include <mutex>

#include "arena.hpp"
#include "dry_run.hpp"
#include "graph_memory.hpp"
#include "kdlib/backend/cuda/context.cuh"
#include "kdlib/backend/cuda/facts.hpp"
#include "kdlib/backend/cuda/library_attention.hpp"
#include "upload_ring.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

namespace {
/// The stream to which this thread's work goes while it captures a graph, else nullptr.
cudaStream_t& recording_stream() {
  thread_local cudaStream_t stream = nullptr;
  return stream;
}
/// A stream with the default flags: work of the legacy stream, a user's own kernels for example, keeps its order with
/// it. It lives as long as the program.
void* main_stream() {
  static cudaStream_t const stream = [] {
    cudaStream_t made = nullptr;
    check_cuda(cudaStreamCreate(&made), "the compute stream");
    return made;
  }();
  return stream;
}
}  // namespace
void* compute_stream() { return recording_stream() != nullptr ? recording_stream() : main_stream(); }
void* copy_stream() {
  static cudaStream_t const stream = [] {
    cudaStream_t made = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "the copy stream");
    return made;
  }();
  return stream;
}

bool is_device_memory(const void* p) {
  if (DryDevice::one().holds(p)) return true;
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, p), "cudaPointerGetAttributes");
  return attributes.type == cudaMemoryTypeDevice;
}

bool is_capturing() { return recording_stream() != nullptr; }
void refuse_while_capturing(const char* what) {
  require<BackendError>(!is_capturing(), "[cuda] ", what, " while a graph is captured: copy before");
}

namespace {
/// What every call that waits does first.
void begin_wait(const char* what) {
  check_may_wait(what);
  require<BackendError>(!is_capturing(), "[cuda] ", what, " while a graph is captured: it waits for the device");
}
}  // namespace
void synchronize_stream(void* stream) {
  begin_wait("synchronize_stream");
  if (is_dry()) return;
  check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream == nullptr ? compute_stream() : stream)),
             "work of the device");
}

struct CudaEvent::State {
  cudaEvent_t event = nullptr;
  State() { check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate"); }
  ~State() { cudaEventDestroy(event); }
};
CudaEvent::CudaEvent() : state_(std::make_unique<State>()) {}
CudaEvent::~CudaEvent() = default;
void CudaEvent::record(void* stream) {
  if (is_dry()) return;
  check_cuda(cudaEventRecord(state_->event, static_cast<cudaStream_t>(stream)), "cudaEventRecord");
}
void CudaEvent::wait(void* stream) const {
  if (is_dry()) return;
  check_cuda(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), state_->event, 0), "cudaStreamWaitEvent");
}
void CudaEvent::synchronize() const {
  begin_wait("CudaEvent::synchronize");
  check_cuda(cudaEventSynchronize(state_->event), "work of the device");
}

bool CudaEvent::reached() const {
  const cudaError_t status = cudaEventQuery(state_->event);
  if (status == cudaErrorNotReady) return cudaGetLastError(), false;
  check_cuda(status, "cudaEventQuery");
  return true;
}

PinnedMemory::PinnedMemory(std::size_t bytes) : bytes_(bytes) {
  if (bytes != 0) check_cuda(cudaMallocHost(&data_, bytes), "pinned memory");
}
PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}
void copy_to_device(void* to, const void* pinned, std::size_t bytes, void* stream) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream)),
             "a copy to the device");
}
void copy_to_host(void* pinned, const void* from, std::size_t bytes, void* stream) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)),
             "a copy to the host");
}

struct CudaGraph::State {
  std::shared_ptr<GraphMemory> memory;
  std::unique_ptr<CaptureMemory> capture;  // while it is recorded
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t program = nullptr;
  bool dry = false;  // captured in a dry run
  ~State() {
    if (program != nullptr) cudaGraphExecDestroy(program);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
};
CudaGraph::CudaGraph() : state_(std::make_unique<State>()) {}
CudaGraph::~CudaGraph() = default;
bool CudaGraph::captured() const { return state_->program != nullptr || state_->dry; }

/// Another stream than the main one, so that what other threads queue meanwhile is not recorded.
void CudaGraph::begin(std::shared_ptr<GraphMemory> memory) {
  require<BackendError>(current_capture_memory() == nullptr, "[cuda] this thread captures a graph already");
  state_ = std::make_unique<State>();
  if (!is_dry()) {
    thread_local cudaStream_t stream = nullptr;
    if (stream == nullptr)
      check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream that records");
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    recording_stream() = stream;
  }
  state_->capture = std::make_unique<CaptureMemory>(memory);
  state_->memory = std::move(memory);
  current_capture_memory() = state_->capture.get();
}
void CudaGraph::end() {
  current_capture_memory() = nullptr;
  cudaStream_t const stream = std::exchange(recording_stream(), nullptr);
  cudaGraph_t graph = nullptr;
  if (stream != nullptr) check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  state_->graph = graph;
  check_capture_memory(std::exchange(state_->capture, nullptr)->finish());
  if (stream != nullptr) check_cuda(cudaGraphInstantiate(&state_->program, graph, 0), "cudaGraphInstantiate");
  state_->dry = stream == nullptr;
}
void CudaGraph::abandon() noexcept {
  current_capture_memory() = nullptr;
  cudaGraph_t graph = nullptr;
  if (cudaStream_t const stream = std::exchange(recording_stream(), nullptr); stream != nullptr)
    cudaStreamEndCapture(stream, &graph);
  cudaGetLastError();  // the error that ends the capture is on its way
  state_->graph = graph;
  std::exchange(state_->capture, nullptr)->finish();
}
void CudaGraph::launch() {
  require<BackendError>(captured(), "[cuda] a graph is launched that was not captured");
  if (is_dry()) return;
  require<BackendError>(state_->program != nullptr, "[cuda] a graph of a dry run is launched behind it");
  check_cuda(cudaGraphLaunch(state_->program, static_cast<cudaStream_t>(compute_stream())), "cudaGraphLaunch");
}

}  // namespace detail

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // forget it: no driver is an answer, not a failure
  return 0;
}

CudaFacts cuda_facts() {
  CudaFacts f;
  cudaRuntimeGetVersion(&f.runtime);
  cudaDriverGetVersion(&f.driver);
  f.devices = cuda_device_count();
  int device = 0;
  cudaDeviceProp properties{};
  if (f.devices > 0 && cudaGetDevice(&device) == cudaSuccess &&
      cudaGetDeviceProperties(&properties, device) == cudaSuccess) {
    f.name = static_cast<const char*>(properties.name);
    f.major = properties.major, f.minor = properties.minor;
    f.has_kernels = detail::has_device_kernels();
    std::size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) == cudaSuccess)
      f.memory_bytes = static_cast<std::int64_t>(total), f.free_bytes = static_cast<std::int64_t>(free);
  }
  cudaGetLastError();  // answers, not failures
  return f;
}

std::string cuda_device_text() {
  require<BackendError>(
      cuda_device_count() > 0,
      "[cuda] no device answers; run with the CPU backend (kdlib/backend/cpu.hpp) or on a machine with a GPU");
  int device = 0;
  detail::check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp properties{};
  detail::check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return concat(static_cast<const char*>(properties.name), ", compute capability ", properties.major, ".",
                properties.minor);
}

std::string cuda_library_text() {
  int runtime = 0, major = 0, minor = 0, patch = 0;
  detail::check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  detail::check_cublas(cublasLtGetProperty(MAJOR_VERSION, &major), "cublasLtGetProperty");
  detail::check_cublas(cublasLtGetProperty(MINOR_VERSION, &minor), "cublasLtGetProperty");
  detail::check_cublas(cublasLtGetProperty(PATCH_LEVEL, &patch), "cublasLtGetProperty");
  const int cudnn = detail::cudnn_facts().version;
  return concat(
      "CUDA runtime ", runtime / 1000, ".", runtime % 1000 / 10, ", cuBLASLt ", major, ".", minor, ".", patch,
      cudnn == 0 ? std::string() : concat(", cuDNN ", cudnn / 10000, ".", cudnn / 100 % 100, ".", cudnn % 100));
}

void cuda_synchronize() {
  detail::begin_wait("cuda_synchronize");
  if (detail::is_dry()) return;
  detail::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

void Memory<Cuda>::require_ready() { require_cuda_device(cuda_facts()); }
namespace {

/// The arena of all tensors, which outlives them. Copies of the copy stream use memory behind events alone.
struct SharedArena {
  std::mutex mutex;
  detail::Arena arena{[](std::size_t bytes) -> void* {
                        void* p = nullptr;
                        const cudaError_t status = cudaMalloc(&p, bytes);
                        if (status == cudaErrorMemoryAllocation) return cudaGetLastError(), nullptr;
                        detail::check_cuda(status, "cudaMalloc");
                        return p;
                      },
                      [](void* p) { cudaFree(p); }};
};
SharedArena& shared_arena() {
  static SharedArena* const shared = new SharedArena;
  return *shared;
}

}  // namespace

void* Memory<Cuda>::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (void* const p = detail::allocate_captured(bytes)) return p;
  if (detail::is_dry()) {
    void* const p = detail::DryDevice::one().allocate(bytes);
    return detail::plan_allocation(p, bytes), p;
  }
  SharedArena& shared = shared_arena();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  void* p = shared.arena.allocate(bytes);
  // Pieces of which nothing is in use make room for a larger one; cudaFree waits for the work that used them.
  if (p == nullptr && shared.arena.trim() > 0) p = shared.arena.allocate(bytes);
  if (p == nullptr) {
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    fail<BackendError>("[cuda] cannot allocate ", bytes, " bytes: ", free, " of ", total, " are free, and ",
                       shared.arena.reserved() - shared.arena.used(),
                       " in smaller holes; use a smaller batch, length or chunk");
  }
  memory_use<Cuda>().add(static_cast<std::int64_t>(bytes));
  detail::plan_allocation(p, bytes);
  return p;
}

double Memory<Cuda>::available() {
  if (detail::is_dry()) return std::numeric_limits<double>::infinity();
  std::size_t free = 0, total = 0;
  detail::check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  SharedArena& shared = shared_arena();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  return static_cast<double>(free + shared.arena.reserved() - shared.arena.used());
}

CountedMemory Memory<Cuda>::counted() {
  SharedArena& shared = shared_arena();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  return detail::counted(shared.arena);
}

void Memory<Cuda>::release(void* p, std::size_t bytes) noexcept {
  if (p == nullptr || detail::release_captured(p)) return;
  detail::plan_release(p);
  if (detail::DryDevice::one().holds(p)) return detail::DryDevice::one().release(p);
  SharedArena& shared = shared_arena();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  shared.arena.release(p);
  memory_use<Cuda>().now.fetch_sub(static_cast<std::int64_t>(bytes));
}

void Memory<Cuda>::fill_zero(void* p, std::size_t bytes) {
  if (bytes == 0 || detail::is_dry()) return;
  detail::check_cuda(cudaMemsetAsync(p, 0, bytes, static_cast<cudaStream_t>(detail::compute_stream())), "cudaMemset");
}
void Memory<Cuda>::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0 || detail::is_dry()) return;
  detail::check_cuda(
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(detail::compute_stream())),
      "a copy on the device");
}
void Memory<Cuda>::from_host(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0 && !detail::is_dry()) detail::upload_ring().copy(to, from, bytes);
}
void Memory<Cuda>::to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  detail::begin_wait("Memory<Cuda>::to_host");
  if (detail::is_dry()) return static_cast<void>(std::memset(to, 0, bytes));
  detail::copy_to_host(to, from, bytes, detail::compute_stream());
  detail::synchronize_stream(detail::compute_stream());
}

KDLIB_NAMESPACE_END
