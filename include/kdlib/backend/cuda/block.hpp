// SPDX-License-Identifier: Apache-2.0
// What a CUDA kernel is written against. A kernel is a functor whose members are its arguments:
//
//   struct Double {
//     static constexpr int threads = 256;  // the largest block it is launched with
//     float* x;
//     template <class B>
//     KDLIB_HOST_DEVICE void operator()(B& block) const { x[block.block() * block.size() + block.thread()] *= 2; }
//   };
//
// launch(kernel, shape) (launch.hpp) starts it: on a device where nvcc compiles the file, else on the emulated device,
// where every thread is a fibre. A kernel names no threadIdx, no __shared__ and no intrinsic.
#ifndef KDLIB_BACKEND_CUDA_BLOCK_HPP
#define KDLIB_BACKEND_CUDA_BLOCK_HPP

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "kdlib/core/math.hpp"

#if defined(__CUDACC__)
#define KDLIB_UNROLL _Pragma("unroll")
#else
#define KDLIB_UNROLL
#endif

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr int warp_threads = 32;

/// How a kernel is launched. `threads` of 0 are those that the kernel names.
struct LaunchShape {
  std::int64_t blocks = 1;    // at most 2^31 - 1
  std::int64_t blocks_y = 1;  // at most 65535
  int threads = 0;
  std::int64_t shared_bytes = 0;
};

/// An array in the block's shared memory: a pointer on the device; the emulated device checks every access.
template <class X, class B>
using SharedArray = typename B::template Shared<X>;

/// The threads of one block, as a kernel sees them. Shared memory is untyped: shared<X>(offset, count) gives `count` X
/// from byte `offset` on, with a[i] for single numbers and for structures a.read(i) -> const X& and a.write(i) -> X&,
/// a.read(i, n) -> const X* and a.write(i, n) -> X*. A reference must not be kept over a barrier. sizeof(X) is a
/// multiple of 4. Shuffles and ballots are for whole warps of 32.
template <class B>
concept Block = requires(B& block, float x, bool p, std::int32_t* counter) {
  { block.block() } -> std::same_as<std::int64_t>;  // index in the grid
  { block.block_y() } -> std::same_as<std::int64_t>;
  { block.blocks() } -> std::same_as<std::int64_t>;  // blocks in x
  { block.thread() } -> std::same_as<std::int64_t>;
  { block.size() } -> std::same_as<std::int64_t>;       // threads
  { block.shuffle_down(x, 1) } -> std::same_as<float>;  // x of the lane `offset` further on, else the own
  { block.shuffle_xor(x, 1) } -> std::same_as<float>;
  { block.shuffle(x, 1) } -> std::same_as<float>;                                // x of that lane
  { block.ballot(p) } -> std::same_as<std::uint32_t>;                            // bit l: p of lane l
  { block.atomic_add(counter, std::int32_t{1}) } -> std::same_as<std::int32_t>;  // in device memory; the old value
  { block.atomic_or(counter, std::int32_t{1}) } -> std::same_as<std::int32_t>;
  block.barrier();       // of the block; orders memory
  block.warp_barrier();  // of the warp; orders memory inside it
  block.template shared<float>(std::int64_t{0}, std::int64_t{1});
};

/// combine(a, b) adds b to a. Every lane gets the warp's whole, with the same bits where combine is commutative.
template <class B, class X, class F>
KDLIB_HOST_DEVICE X reduce_warp(B& block, X mine, F combine) {
  KDLIB_UNROLL
  for (int mask = warp_threads / 2; mask > 0; mask /= 2) {
    const X other = block.shuffle_xor(mine, mask);
    combine(mine, other);
  }
  return mine;
}

/// combine(a, b) adds b to a. Every thread gets the block's whole, by the same tree at every run. Takes size() / 32 X
/// of shared memory from byte `offset` on, free again when it returns. The block has whole warps.
template <class B, class X, class F>
KDLIB_HOST_DEVICE X reduce_block(B& block, X mine, std::int64_t offset, F combine) {
  static_assert(std::is_trivially_copyable_v<X>);
  KDLIB_UNROLL
  for (int lanes = warp_threads / 2; lanes > 0; lanes /= 2) {
    const X other = block.shuffle_down(mine, lanes);
    combine(mine, other);
  }
  const int thread = static_cast<int>(block.thread()), warps = static_cast<int>(block.size()) / warp_threads;
  const auto slots = block.template shared<X>(offset, warps);
  if (thread % warp_threads == 0) slots.write(thread / warp_threads) = mine;
  block.barrier();
  X all = slots.read(0);
  for (int w = 1; w < warps; ++w) combine(all, slots.read(w));
  block.barrier();
  return all;
}

/// The sum over a warp, or over a block with `reduce_bytes` of shared memory from its beginning on.
template <class B, class X>
KDLIB_HOST_DEVICE X sum_of_warp(B& block, X mine) {
  return reduce_warp(block, mine, [](X& a, const X& b) { a += b; });
}
template <class B, class X>
KDLIB_HOST_DEVICE X sum_of_block(B& block, X mine) {
  return reduce_block(block, mine, 0, [](X& a, const X& b) { a += b; });
}
constexpr std::int64_t reduce_bytes = 8 * sizeof(double);  // a warp's slot of a block of 256

/// The row of a warp where every warp has one, and the thread's place in the warp.
template <class B>
KDLIB_HOST_DEVICE std::int64_t warp_row(B& block) {
  return (block.block() * block.size() + block.thread()) / warp_threads;
}
template <class B>
KDLIB_HOST_DEVICE std::int64_t warp_lane(B& block) {
  return block.thread() % warp_threads;
}

/// W neighbouring numbers, loaded and stored at once.
template <class T, int W>
struct alignas(sizeof(T) * W) BlockPack {
  T v[W];
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
