// SPDX-License-Identifier: Apache-2.0
// One block on the emulated device: turns of its threads, barriers, calls of a warp, and what is wrong with them.
#include "kdlib/backend/cuda/emulated/threads.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "device.hpp"
#include "fibres.hpp"
#include "kdlib/backend/cuda/emulated/block.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

EmulatedThreads::EmulatedThreads() : fibres_(std::make_unique<FibreSet>(most_threads)) {}
EmulatedThreads::~EmulatedThreads() = default;

EmulatedThreads*& EmulatedThreads::running() {
  static EmulatedThreads* now = nullptr;
  return now;
}

void EmulatedThreads::start(void* self) {
  auto* threads = static_cast<EmulatedThreads*>(self);
  try {
    EmulatedBlock block(*threads);
    (*threads->body_)(block);
  } catch (const std::exception& e) {
    if (!threads->failed_) threads->failure_ = e.what();
    threads->failed_ = true;
  }
  threads->pause(Point::end);
}

void EmulatedThreads::run(const Body& body, const LaunchShape& shape, std::int64_t block, std::int64_t block_y) {
  body_ = &body, shape_ = &shape, block_ = block, block_y_ = block_y;
  failed_ = false;
  threads_.assign(static_cast<std::size_t>(shape.threads), Thread{});
  warp_epochs_.assign(static_cast<std::size_t>((shape.threads + warp_threads - 1) / warp_threads), 0);
  const auto words = static_cast<std::size_t>((shape.shared_bytes + 7) / 8);
  memory_.assign(words, ~std::uint64_t{0});  // NaN in every type
  shared_ = reinterpret_cast<unsigned char*>(memory_.data());
  if (shadow_.size() < 2 * words) shadow_.resize(2 * words);
  if (++epoch_ == 0) {  // after 2^32 barriers the old epochs would come again
    std::fill(shadow_.begin(), shadow_.end(), EmulatedShadow{});
    epoch_ = 1;
  }
  for (int i = 0; i < shape.threads; ++i) fibres_->prepare(i, &EmulatedThreads::start, this);
  order_.resize(threads_.size());
  std::iota(order_.begin(), order_.end(), 0);
  if (emulated_settings().order == EmulatedOrder::backwards) std::reverse(order_.begin(), order_.end());
  running() = this;
  bool ended = false;
  try {
    while (!ended) {
      pass();
      if (failed_) break;
      if (!release_warps()) ended = release_block();
    }
  } catch (...) {
    running() = nullptr;
    throw;
  }
  running() = nullptr;
  if (failed_) fail<BackendError>(failure_, " (block ", block, ", thread ", current_, ")");
}

/// Every thread that can runs to its next point.
void EmulatedThreads::pass() {
  if (emulated_settings().order == EmulatedOrder::shuffled) emulated_device().shuffle(order_);
  for (const int i : order_) {
    if (threads_[static_cast<std::size_t>(i)].point != Point::ready) continue;
    current_ = i;
    fibres_->resume(i);
    if (failed_) return;
  }
}

void EmulatedThreads::pause(Point point) {
  const int me = current_;
  threads_[static_cast<std::size_t>(me)].point = point;
  fibres_->pause(me);
}
void EmulatedThreads::barrier() { pause(Point::barrier); }
void EmulatedThreads::warp_barrier() {
  EmulatedWarpCall call;
  call.what = "warp_barrier";
  call.run = [](EmulatedWarpCall* const*) {
    EmulatedThreads& self = *running();
    ++self.warp_epochs_[static_cast<std::size_t>(self.warp())];
  };
  warp_call(call);
}
void EmulatedThreads::warp_call(EmulatedWarpCall& call) {
  threads_[static_cast<std::size_t>(current_)].call = &call;
  pause(Point::warp);
}
void EmulatedThreads::abandon(const std::string& text) {
  if (!failed_) failure_ = text;
  failed_ = true;
  pause(Point::end);
  __builtin_unreachable();
}

/// Makes the calls of whole warps; false where no warp waits at one.
bool EmulatedThreads::release_warps() {
  bool any = false;
  for (std::size_t first = 0; first < threads_.size(); first += warp_threads) {
    const std::size_t end = std::min(first + warp_threads, threads_.size());
    const auto waits = [&](std::size_t i) { return threads_[i].point == Point::warp; };
    std::size_t waiting = 0;
    for (std::size_t i = first; i < end; ++i) waiting += waits(i) ? 1 : 0;
    if (waiting == 0) continue;
    current_ = static_cast<int>(first);
    if (waiting != warp_threads) divergent();
    EmulatedWarpCall* lanes[warp_threads];
    for (std::size_t l = 0; l < warp_threads; ++l) {
      lanes[l] = threads_[first + l].call;
      if (lanes[l]->run != lanes[0]->run || lanes[l]->bytes != lanes[0]->bytes) divergent();
      threads_[first + l].point = Point::ready;
    }
    lanes[0]->run(lanes);
    any = true;
  }
  return any;
}

/// Lets all threads past a barrier; true where all have ended.
bool EmulatedThreads::release_block() {
  std::size_t ended = 0;
  for (const Thread& t : threads_) ended += t.point == Point::end ? 1 : 0;
  if (ended == threads_.size()) return true;
  if (ended != 0) divergent();
  for (Thread& t : threads_) t.point = Point::ready;
  if (++epoch_ == 0) std::fill(shadow_.begin(), shadow_.end(), EmulatedShadow{}), epoch_ = 1;
  return false;
}

void EmulatedThreads::divergent() const {
  const auto name = [&](const Thread& t) {
    return t.point == Point::end ? "the kernel's end" : t.point == Point::barrier ? "a barrier" : t.call->what;
  };
  for (std::size_t i = 1; i < threads_.size(); ++i) {
    const std::string a = name(threads_[0]), b = name(threads_[i]);
    if (a != b)
      fail<BackendError>("[cuda emulated] the threads of a block wait at different places: thread 0 at ", a,
                         ", thread ", i, " at ", b, " (block ", block_, "); every thread must reach each of them");
  }
  fail<BackendError>("[cuda emulated] ", name(threads_[0]), " is for whole warps of 32; this block has ",
                     threads_.size(), " threads");
}

unsigned char* EmulatedThreads::shared(std::int64_t offset, std::int64_t count, std::size_t size,
                                       std::size_t alignment) {
  const std::int64_t end = offset + count * static_cast<std::int64_t>(size);
  require<BackendError>(offset >= 0 && count >= 0 && end <= shape_->shared_bytes, "[cuda emulated] bytes ", offset,
                        " to ", end, " of shared memory; the launch asked for ", shape_->shared_bytes);
  require<BackendError>(offset % static_cast<std::int64_t>(alignment) == 0, "[cuda emulated] byte ", offset,
                        " of shared memory is not a multiple of ", alignment);
  return shared_ + offset;
}
void EmulatedThreads::out_of_range(std::int64_t index, std::int64_t end, std::int64_t count) const {
  fail<BackendError>("[cuda emulated] elements ", index, " to ", end, " of a shared array of ", count);
}
void EmulatedThreads::race(const char* now, std::int64_t offset, int other, const char* before) const {
  fail<BackendError>("[cuda emulated] thread ", current_, " ", now, " byte ", offset,
                     " of shared memory, which thread ", other, " ", before,
                     " since the last barrier; a barrier is missing between the two");
}

}  // namespace detail
KDLIB_NAMESPACE_END
