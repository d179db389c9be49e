// SPDX-License-Identifier: Apache-2.0
// The threads of one block on the emulated device: each is a fibre that runs until it reaches a barrier or a call of
// its whole warp. Shared memory begins as NaN, and who read and wrote each word since the last barrier is kept, so that
// an access without a barrier is found in any order of the threads.
#ifndef KDLIB_BACKEND_CUDA_EMULATED_THREADS_HPP
#define KDLIB_BACKEND_CUDA_EMULATED_THREADS_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class EmulatedBlock;
class FibreSet;

/// One lane's part of a call that the whole warp makes: `run` gets the 32 parts once all lanes have arrived.
struct EmulatedWarpCall {
  void (*run)(EmulatedWarpCall* const* lanes) = nullptr;
  const char* what = "";
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t bytes = 0;
  int argument = 0;
};

/// Accesses of one word of shared memory. Epochs count barriers: of the block, and of a warp.
struct EmulatedShadow {
  std::uint32_t write_epoch = 0, write_warp_epoch = 0, read_epoch = 0, read_warp_epoch = 0;
  std::int16_t writer = 0, reader = 0;
  std::int16_t reader_warp = 0;  // -1: of several warps
  bool several = false;          // readers
};

class EmulatedThreads {
 public:
  static constexpr int most_threads = 1024;
  using Body = std::function<void(EmulatedBlock&)>;

  EmulatedThreads();
  ~EmulatedThreads();
  EmulatedThreads(const EmulatedThreads&) = delete;
  EmulatedThreads& operator=(const EmulatedThreads&) = delete;

  /// Runs one block. What goes wrong in a thread is a BackendError.
  void run(const Body& body, const LaunchShape& shape, std::int64_t block, std::int64_t block_y);

  // What the threads call.
  int thread() const { return current_; }
  int warp() const { return current_ / warp_threads; }
  const LaunchShape& shape() const { return *shape_; }
  std::int64_t block() const { return block_; }
  std::int64_t block_y() const { return block_y_; }
  void barrier();
  void warp_barrier();
  void warp_call(EmulatedWarpCall& call);
  /// The shared memory, checked: [offset, offset + count * size) inside it, and aligned.
  unsigned char* shared(std::int64_t offset, std::int64_t count, std::size_t size, std::size_t alignment);
  std::int64_t offset_of(const void* p) const { return static_cast<const unsigned char*>(p) - shared_; }
  void note_read(std::int64_t offset, std::int64_t bytes) {
    for (std::int64_t w = offset / 4; w < (offset + bytes) / 4; ++w) {
      EmulatedShadow& s = shadow_[static_cast<std::size_t>(w)];
      const auto me = static_cast<std::int16_t>(current_), mine = static_cast<std::int16_t>(warp());
      const std::uint32_t now = warp_epochs_[static_cast<std::size_t>(mine)];
      if (s.write_epoch == epoch_ && s.writer != me && (s.writer / warp_threads != mine || s.write_warp_epoch == now))
        race("reads", w * 4, s.writer, "wrote");
      if (s.read_epoch != epoch_) s.reader = me, s.reader_warp = mine, s.several = false;
      else if (s.reader != me) s.several = true, s.reader_warp = s.reader_warp == mine ? mine : std::int16_t{-1};
      s.read_epoch = epoch_, s.read_warp_epoch = now;
    }
  }
  void note_write(std::int64_t offset, std::int64_t bytes) {
    for (std::int64_t w = offset / 4; w < (offset + bytes) / 4; ++w) {
      EmulatedShadow& s = shadow_[static_cast<std::size_t>(w)];
      const auto me = static_cast<std::int16_t>(current_), mine = static_cast<std::int16_t>(warp());
      const std::uint32_t now = warp_epochs_[static_cast<std::size_t>(mine)];
      if (s.write_epoch == epoch_ && s.writer != me && (s.writer / warp_threads != mine || s.write_warp_epoch == now))
        race("writes", w * 4, s.writer, "wrote");
      if (s.read_epoch == epoch_ && (s.several || s.reader != me) &&
          (s.reader_warp != mine || s.read_warp_epoch == now))
        race("writes", w * 4, s.reader, "read");
      s.write_epoch = epoch_, s.write_warp_epoch = now, s.writer = me;
    }
  }
  [[noreturn]] void out_of_range(std::int64_t index, std::int64_t end, std::int64_t count) const;

  /// Leaves the current thread for good: what a fault in it calls. The block's run fails with `text`.
  [[noreturn]] void abandon(const std::string& text);
  /// The set whose threads run now, or nullptr.
  static EmulatedThreads*& running();

 private:
  enum class Point : std::uint8_t { ready, barrier, warp, end };
  struct Thread {
    Point point = Point::ready;
    EmulatedWarpCall* call = nullptr;
  };

  [[noreturn]] void race(const char* now, std::int64_t offset, int other, const char* before) const;
  void pass();
  bool release_warps();
  bool release_block();
  void pause(Point point);
  [[noreturn]] void divergent() const;
  static void start(void* self);

  std::unique_ptr<FibreSet> fibres_;
  std::vector<Thread> threads_;
  std::vector<int> order_;
  std::vector<std::uint32_t> warp_epochs_;
  std::vector<EmulatedShadow> shadow_;
  std::vector<std::uint64_t> memory_;
  unsigned char* shared_ = nullptr;
  const Body* body_ = nullptr;
  const LaunchShape* shape_ = nullptr;
  std::int64_t block_ = 0, block_y_ = 0;
  std::uint32_t epoch_ = 0;
  int current_ = 0;
  std::string failure_;
  bool failed_ = false;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
