// SPDX-License-Identifier: Apache-2.0
// Streams, events, graphs and memory of the emulated device, under the names of the CUDA backend. Work is queued and
// runs as late as something waits for it.
#include "kdlib/backend/cuda/runtime.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <set>

#include "../cuda/dry_run.hpp"
#include "../cuda/graph_memory.hpp"
#include "../cuda/upload_ring.hpp"
#include "device.hpp"
#include "faults.hpp"
#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/emulated/launch.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

EmulatedDevice& emulated_device() {
  static EmulatedDevice* device = new EmulatedDevice;  // outlives every tensor
  return *device;
}

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

/// Device memory is open to work while one lives.
class Working {
 public:
  explicit Working(EmulatedMemory& memory) : memory_(memory) { memory_.begin_work(); }
  ~Working() noexcept(false) {
    try {
      memory_.end_work();
    } catch (const BackendError&) {
      if (std::uncaught_exceptions() == before_) throw;  // else the first error is on its way
    }
  }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

 private:
  EmulatedMemory& memory_;
  int before_ = std::uncaught_exceptions();
};

void require_device() {
  require<BackendError>(
      emulated_settings().devices > 0,
      "[cuda] no device answers; run with the CPU backend (kdlib/backend/cpu.hpp) or on a machine with a GPU");
}

}  // namespace

EmulatedCapture*& EmulatedDevice::current_capture() {
  thread_local EmulatedCapture* capture = nullptr;
  return capture;
}

std::uint64_t EmulatedDevice::random() {
  if (state_ == 0) state_ = emulated_settings().seed * 0x9E3779B97F4A7C15u + 1;
  state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
  return state_;
}

void EmulatedDevice::enqueue(void* handle, std::function<void()> run, const std::vector<std::uint64_t>& touched) {
  EmulatedStream& to = stream(handle);
  if (EmulatedCapture* const capture = current_capture(); capture != nullptr && &to == &compute) {
    capture->work.push_back(std::move(run));
    capture->touched.insert(touched.begin(), touched.end());
    return;
  }
  to.queue.push_back({std::move(run), nullptr, nullptr, 0});
}

void EmulatedDevice::run_one(EmulatedStream& from) {
  const EmulatedWork work = std::move(from.queue.front());
  from.queue.pop_front();
  if (work.record != nullptr) work.record->reached = std::max(work.record->reached, work.ticket);
  else if (work.run) work.run();
}

void EmulatedDevice::run_until(EmulatedStream* wanted, const std::function<bool()>& done) {
  if (done()) return;
  const Working working(memory);
  const auto can_run = [](const EmulatedStream& s) {
    return !s.queue.empty() &&
           (s.queue.front().wait == nullptr || s.queue.front().wait->reached >= s.queue.front().ticket);
  };
  try {
    while (!done()) {
      EmulatedStream* other = wanted == &compute ? &copy : &compute;
      const bool mine = can_run(*wanted), theirs = can_run(*other);
      require<BackendError>(mine || theirs, "[cuda emulated] a stream waits for a point that no work records");
      bool choose_other = !mine;
      if (mine && theirs) {
        if (emulated_settings().order == EmulatedOrder::backwards) choose_other = true;
        if (emulated_settings().order == EmulatedOrder::shuffled) choose_other = random() % 2 != 0;
      }
      run_one(choose_other ? *other : *wanted);
    }
  } catch (...) {
    compute.queue.clear(), copy.queue.clear();
    throw;
  }
}

void EmulatedDevice::begin_wait(const char* what) {
  check_may_wait(what);
  require<BackendError>(current_capture() == nullptr, "[cuda] ", what,
                        " while a graph is captured: it waits for the device");
  ++counts.waits;
}
void EmulatedDevice::wait_for(EmulatedStream& s) {
  run_until(&s, [&] { return s.queue.empty(); });
}
void EmulatedDevice::wait_for_all() { wait_for(compute), wait_for(copy); }

void* compute_stream() { return &emulated_device().compute; }
void* copy_stream() { return &emulated_device().copy; }
bool is_device_memory(const void* p) {
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  return DryDevice::one().holds(p) || d.memory.holds(reinterpret_cast<std::uintptr_t>(p));
}
bool is_capturing() { return EmulatedDevice::current_capture() != nullptr; }
void refuse_while_capturing(const char* what) {
  require<BackendError>(!is_capturing(), "[cuda] ", what, " while a graph is captured: copy before");
}
void synchronize_stream(void* stream) {
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  d.begin_wait("synchronize_stream");
  if (is_dry()) return;
  d.wait_for(d.stream(stream));
}

struct CudaEvent::State {
  std::shared_ptr<EmulatedEvent> event = std::make_shared<EmulatedEvent>();
};
CudaEvent::CudaEvent() : state_(std::make_unique<State>()) {}
CudaEvent::~CudaEvent() = default;
void CudaEvent::record(void* stream) {
  if (is_dry()) return;
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  require<BackendError>(!is_capturing(), "[cuda] an event is recorded while a graph is captured");
  d.stream(stream).queue.push_back({nullptr, state_->event, nullptr, ++state_->event->recorded});
}
void CudaEvent::wait(void* stream) const {
  if (is_dry()) return;
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  require<BackendError>(!is_capturing(), "[cuda] an event is waited for while a graph is captured");
  d.stream(stream).queue.push_back({nullptr, nullptr, state_->event, state_->event->recorded});
}
void CudaEvent::synchronize() const {
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  d.begin_wait("CudaEvent::synchronize");
  d.run_until(&d.compute, [&] { return state_->event->reached >= state_->event->recorded; });
}

bool CudaEvent::reached() const {
  const Lock lock(emulated_device().mutex);
  return state_->event->reached >= state_->event->recorded;
}

namespace {
std::set<std::pair<const char*, std::size_t>>& pinned_blocks() {
  static std::set<std::pair<const char*, std::size_t>> all;
  return all;
}
void require_pinned(const void* p, std::size_t bytes, const char* what) {
  const char* at = static_cast<const char*>(p);
  for (const auto& [begin, size] : pinned_blocks())
    if (at >= begin && at + bytes <= begin + size) return;
  fail<BackendError>("[cuda] ", what, ": ", bytes, " bytes of host memory that is not pinned; use PinnedMemory");
}
}  // namespace

PinnedMemory::PinnedMemory(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const Lock lock(emulated_device().mutex);
  data_ = std::malloc(bytes);
  require<BackendError>(data_ != nullptr, "[cuda] cannot pin ", bytes, " bytes");
  pinned_blocks().insert({static_cast<char*>(data_), bytes});
}
PinnedMemory::~PinnedMemory() {
  if (data_ == nullptr) return;
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  try {
    d.wait_for_all();  // as the device does
  } catch (const std::exception& e) {
    die(e.what());
  }
  pinned_blocks().erase({static_cast<char*>(data_), bytes_});
  std::free(data_);
}

void copy_to_device(void* to, const void* pinned, std::size_t bytes, void* stream) {
  if (bytes == 0) return;
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  require_pinned(pinned, bytes, "copy_to_device");
  const std::uint64_t serial = d.memory.require_range(to, bytes, "copy_to_device").serial;
  d.enqueue(stream, [=, &d] { ++d.counts.copies, std::memcpy(to, pinned, bytes); }, {serial});
}
void copy_to_host(void* pinned, const void* from, std::size_t bytes, void* stream) {
  if (bytes == 0) return;
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  require_pinned(pinned, bytes, "copy_to_host");
  const std::uint64_t serial = d.memory.require_range(from, bytes, "copy_to_host").serial;
  std::memset(pinned, 0xFF, bytes);  // who reads before the copy has run reads NaN
  d.enqueue(stream, [=, &d] { ++d.counts.copies, std::memcpy(pinned, from, bytes); }, {serial});
}

void emulated_launch(const EmulatedKernel& kernel, LaunchShape shape, void* stream) {
  if (!is_dry()) require_device();
  EmulatedDevice& d = emulated_device();
  const Lock lock(d.mutex);
  int status = 0;
  char* plain = abi::__cxa_demangle(kernel.type, nullptr, nullptr, &status);
  const std::string name = status == 0 ? plain : kernel.type;
  std::free(plain);
  const EmulatedSettings& s = emulated_settings();
  const std::int64_t most_shared = s.major >= 9 ? 227 * 1024 : 163 * 1024;
  require<BackendError>(shape.threads >= 1 && shape.threads <= kernel.most_threads && shape.threads <= 1024, "[cuda] ",
                        name, " with ", shape.threads, " threads a block; it takes 1 to ",
                        std::min(kernel.most_threads, 1024));
  require<BackendError>(shape.shared_bytes >= 0 && shape.shared_bytes <= most_shared, "[cuda] ", name, " with ",
                        shape.shared_bytes, " bytes of shared memory; capability ", s.major, ".", s.minor, " has ",
                        most_shared);
  require<BackendError>(kernel.bytes <= 32764, "[cuda] ", name, " with ", kernel.bytes,
                        " bytes of arguments; a kernel takes 32764");
  require<BackendError>(
      shape.blocks >= 1 && shape.blocks <= 0x7FFFFFFF && shape.blocks_y >= 1 && shape.blocks_y <= 65535, "[cuda] ",
      name, " with a grid of ", shape.blocks, " x ", shape.blocks_y, "; it takes 2147483647 x 65535");
  if (is_dry()) return;
  const auto touched = d.memory.scan(kernel.words, name);
  d.enqueue(
      stream,
      [shape, name, body = kernel.body, &d] {
        static EmulatedThreads threads;
        ++d.counts.launches;
        std::vector<std::int64_t> order(static_cast<std::size_t>(shape.blocks * shape.blocks_y));
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
        if (emulated_settings().order == EmulatedOrder::backwards) std::reverse(order.begin(), order.end());
        if (emulated_settings().order == EmulatedOrder::shuffled) d.shuffle(order);
        try {
          for (const std::int64_t b : order) threads.run(body, shape, b % shape.blocks, b / shape.blocks);
        } catch (const BackendError& e) {
          fail<BackendError>(e.what(), " in ", name);
        }
      },
      touched);
}

}  // namespace detail

int cuda_device_count() { return emulated_settings().devices; }
std::string cuda_device_text() {
  detail::require_device();
  return concat("emulated device, compute capability ", emulated_settings().major, ".", emulated_settings().minor);
}
std::string cuda_library_text() { return "CUDA emulated on the host, cuBLASLt emulated on the host"; }
void cuda_synchronize() {
  detail::EmulatedDevice& d = detail::emulated_device();
  const detail::Lock lock(d.mutex);
  d.begin_wait("cuda_synchronize");
  if (detail::is_dry()) return;
  d.wait_for_all();
}

namespace {
/// What is fresh in a graph's memory, or was given back in it, is NaN at every launch.
void poison_captured(void* p, std::size_t bytes) {
  if (detail::is_capturing())
    detail::emulated_device().enqueue(nullptr, [p, bytes] { std::memset(p, 0xFF, bytes); }, {});
}
}  // namespace

void* Memory<Cuda>::allocate(std::size_t bytes) {
  if (!detail::is_dry()) detail::require_device();
  if (bytes == 0) return nullptr;
  if (void* const p = detail::allocate_captured(bytes)) return poison_captured(p, bytes), p;
  if (detail::is_dry()) {
    void* const p = detail::DryDevice::one().allocate(bytes);
    return detail::plan_allocation(p, bytes), p;
  }
  detail::EmulatedDevice& d = detail::emulated_device();
  const detail::Lock lock(d.mutex);
  void* p = d.memory.allocate(bytes);
  d.counted[p] = d.arena.allocate(bytes);
  ++d.counts.allocated;
  memory_use<Cuda>().add(static_cast<std::int64_t>(bytes));
  detail::plan_allocation(p, bytes);
  return p;
}
CountedMemory Memory<Cuda>::counted() { return emulated_arena(); }
void Memory<Cuda>::release(void* p, std::size_t bytes) noexcept {
  if (p == nullptr) return;
  if (detail::CaptureMemory* const own = detail::current_capture_memory(); own != nullptr && own->release(p))
    return poison_captured(p, bytes);
  if (detail::release_captured(p)) return;
  detail::plan_release(p);
  if (detail::DryDevice::one().holds(p)) return detail::DryDevice::one().release(p);
  detail::EmulatedDevice& d = detail::emulated_device();
  const detail::Lock lock(d.mutex);
  d.memory.release(p);
  d.arena.release(d.counted.extract(p).mapped());
  d.compute.queue.push_back({[p, &d] { d.memory.bury(reinterpret_cast<std::uintptr_t>(p)); }, nullptr, nullptr, 0});
  memory_use<Cuda>().now.fetch_sub(static_cast<std::int64_t>(bytes));
}
void Memory<Cuda>::fill_zero(void* p, std::size_t bytes) {
  if (bytes == 0 || detail::is_dry()) return;
  detail::EmulatedDevice& d = detail::emulated_device();
  const detail::Lock lock(d.mutex);
  const std::uint64_t serial = d.memory.require_range(p, bytes, "fill_zero").serial;
  d.enqueue(nullptr, [=] { std::memset(p, 0, bytes); }, {serial});
}
void Memory<Cuda>::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0 || detail::is_dry()) return;
  detail::EmulatedDevice& d = detail::emulated_device();
  const detail::Lock lock(d.mutex);
  const std::uint64_t a = d.memory.require_range(to, bytes, "a copy's target").serial,
                      b = d.memory.require_range(from, bytes, "a copy's source").serial;
  d.enqueue(nullptr, [=, &d] { ++d.counts.copies, std::memcpy(to, from, bytes); }, {a, b});
}
namespace {
void check_host_source(detail::EmulatedDevice& d, const void* to, const void* from, std::size_t bytes) {
  const detail::Lock lock(d.mutex);
  d.memory.require_range(to, bytes, "from_host");
  require<BackendError>(!d.memory.holds(reinterpret_cast<std::uintptr_t>(from)),
                        "[cuda emulated] from_host: the source is device memory");
  ++d.counts.uploads;
}
}  // namespace
void Memory<Cuda>::from_host(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0 || detail::is_dry()) return;
  detail::EmulatedDevice& d = detail::emulated_device();
  check_host_source(d, to, from, bytes);
  detail::upload_ring().copy(to, from, bytes);
}
void Memory<Cuda>::to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  detail::EmulatedDevice& d = detail::emulated_device();
  const detail::Lock lock(d.mutex);
  d.begin_wait("Memory<Cuda>::to_host");
  if (detail::is_dry()) return static_cast<void>(std::memset(to, 0, bytes));
  d.memory.require_range(from, bytes, "to_host");
  require<BackendError>(!d.memory.holds(reinterpret_cast<std::uintptr_t>(to)),
                        "[cuda emulated] to_host: the target is device memory");
  d.wait_for(d.compute);
  const detail::Working working(d.memory);
  ++d.counts.copies;
  std::memcpy(to, from, bytes);
}

KDLIB_NAMESPACE_END
