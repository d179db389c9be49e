// SPDX-License-Identifier: Apache-2.0
// Thread blocks on the host: each CUDA thread is a fibre, so a body that is written against a Block runs without a
// device, repeatably and on one system thread. At each barrier or shuffle every thread of the block must arrive at the
// same kind of point, or the run fails; between two points the threads run one after the other, forwards, backwards,
// ..., so an access that lacks a barrier gives a wrong number.
#ifndef KDLIB_TESTS_CUDA_HOST_BLOCK_HPP
#define KDLIB_TESTS_CUDA_HOST_BLOCK_HPP

#include <ucontext.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <vector>

#include "kdlib/backend/cuda/rows_body_inl.hpp"
#include "kdlib/tensor/buffer.hpp"

namespace kdlib_tests {

class HostThreads {
 public:
  enum class Point { barrier, shuffle, end };

  HostThreads(int threads, int warp)
      : warp_(warp), fibres_(static_cast<std::size_t>(threads)), exchange_(2 * fibres_.size()) {
    for (Fibre& f : fibres_) f.stack.resize(stack_bytes);
  }
  int threads() const { return static_cast<int>(fibres_.size()); }
  int warp() const { return warp_; }
  int current() const { return current_; }

  /// body(thread) on every thread of one block.
  void run(const std::function<void(int)>& body) {
    body_ = &body;
    for (int i = 0; i < threads(); ++i) {
      Fibre& f = fibres_[static_cast<std::size_t>(i)];
      f.point = Point::barrier, f.shuffles = 0;
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.data();
      f.context.uc_stack.ss_size = f.stack.size();
      f.context.uc_link = &home_;
      running() = this;
      makecontext(&f.context, &HostThreads::start, 0);
    }
    for (bool forwards = true;; forwards = !forwards) {
      for (int k = 0; k < threads(); ++k) {
        current_ = forwards ? k : threads() - 1 - k;
        running() = this;
        swapcontext(&home_, &fibres_[static_cast<std::size_t>(current_)].context);
      }
      const Point point = fibres_.front().point;
      for (const Fibre& f : fibres_)
        if (f.point != point)
          throw std::logic_error("the threads of a block are at different barriers, shuffles or ends");
      if (point == Point::end) return;
    }
  }
  void wait(Point point) {
    Fibre& f = fibres_[static_cast<std::size_t>(current_)];
    f.point = point;
    swapcontext(&f.context, &home_);
  }
  /// The bytes that the lane `offset` further on of this warp puts in; the own where there is none.
  void shuffle_down(void* x, std::size_t bytes, int offset) {
    const int me = current_, other = me % warp_ + offset < warp_ ? me + offset : me;
    // Two sets of places in turn: nobody writes a place again before all have passed the point after its readers.
    const std::size_t set =
        static_cast<std::size_t>(fibres_[static_cast<std::size_t>(me)].shuffles++ % 2) * fibres_.size();
    std::vector<unsigned char>& mine = exchange_[set + static_cast<std::size_t>(me)];
    mine.assign(static_cast<unsigned char*>(x), static_cast<unsigned char*>(x) + bytes);
    wait(Point::shuffle);
    std::memcpy(x, exchange_[set + static_cast<std::size_t>(other)].data(), bytes);
  }

 private:
  struct Fibre {
    ucontext_t context;
    std::vector<char> stack;
    Point point;
    int shuffles;
  };
  static constexpr std::size_t stack_bytes = 256 * 1024;

  static HostThreads*& running() {
    static thread_local HostThreads* now = nullptr;
    return now;
  }
  static void start() {
    HostThreads* self = running();
    const int me = self->current_;
    (*self->body_)(me);
    self->fibres_[static_cast<std::size_t>(me)].point = Point::end;
  }

  int warp_;
  std::vector<Fibre> fibres_;
  std::vector<std::vector<unsigned char>> exchange_;
  ucontext_t home_{};
  const std::function<void(int)>* body_ = nullptr;
  int current_ = 0;
};

/// The block that the row engine's body is written against.
class HostBlock {
 public:
  HostBlock(HostThreads& threads, int index, const kdlib::detail::BlockShared& shared)
      : threads_(threads), index_(index), shared_(shared) {}
  std::int64_t thread() const { return index_; }
  std::int64_t size() const { return threads_.threads(); }
  int warp_size() const { return threads_.warp(); }
  void barrier() const { threads_.wait(HostThreads::Point::barrier); }
  const kdlib::detail::BlockShared& shared() const { return shared_; }
  template <class X>
  X shuffle_down(X x, int offset) const {
    threads_.shuffle_down(&x, sizeof(X), offset);
    return x;
  }

 private:
  HostThreads& threads_;
  int index_;
  kdlib::detail::BlockShared shared_;
};

/// The grid of row_kernel: a block of `threads` a row. Shared memory holds rubbish when a block begins.
template <class T, class Loss>
void emulate_rows(const Loss& loss, const kdlib::RowTask<T>& task, kdlib::RowResult* results, int threads = 32,
                  int warp = 8) {
  using namespace kdlib::detail;
  HostThreads block_threads(threads, warp);
  for (std::int64_t r = 0; r < task.rows; ++r) {
    std::vector<double> slots(static_cast<std::size_t>(threads / warp * block_slot_bytes) / sizeof(double), 1e300);
    std::vector<double> leaves(sizeof(BlockLeaf) * (kdlib::leaf_count<Loss> + 1) / sizeof(double) + 1, -1e300);
    std::vector<double> support(
        static_cast<std::size_t>(task.support_size * BlockSupport::slot_bytes) / sizeof(double) + 1, 7e300);
    const BlockShared shared{reinterpret_cast<unsigned char*>(slots.data()),
                             reinterpret_cast<BlockLeaf*>(leaves.data()),
                             BlockSupport::at(support.data(), task.support_size)};
    block_threads.run([&](int thread) {
      HostBlock block(block_threads, thread, shared);
      BlockRow<HostBlock, T> row(block, task, r);
      row.run(loss, results[r]);
    });
  }
}

}  // namespace kdlib_tests

#endif
