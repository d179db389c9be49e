// SPDX-License-Identifier: Apache-2.0
// Kernels that do the same with each element: f(i), or f.at<W>(i) for W neighbouring ones at once.
#ifndef KDLIB_BACKEND_CUDA_EACH_INL_HPP
#define KDLIB_BACKEND_CUDA_EACH_INL_HPP

#include <cstdint>

#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/backend/cuda/launch.hpp"
#include "kdlib/core/dtype.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Numbers in 16 bytes.
template <class T>
constexpr int pack_width = static_cast<int>(16 / sizeof(T));

template <int W, class T, class C>
KDLIB_HOST_DEVICE inline void load_pack(const T* from, C (&to)[W]) {
  const auto pack = *reinterpret_cast<const BlockPack<T, W>*>(from);
  KDLIB_UNROLL
  for (int j = 0; j < W; ++j) to[j] = static_cast<C>(pack.v[j]);
}
template <int W, class T, class C>
KDLIB_HOST_DEVICE inline void store_pack(T* to, const C (&from)[W]) {
  BlockPack<T, W> pack;
  KDLIB_UNROLL
  for (int j = 0; j < W; ++j) pack.v[j] = T(from[j]);
  *reinterpret_cast<BlockPack<T, W>*>(to) = pack;
}

template <class F>
struct EachKernel {
  static constexpr int threads = 256;
  F f;
  std::int64_t count;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    for (std::int64_t i = block.block() * block.size() + block.thread(); i < count; i += block.blocks() * block.size())
      f(i);
  }
};
/// Packs of W, and the last elements one by one; W is 1 where the arrays are not aligned.
template <int W, class F>
struct EachPackKernel {
  static constexpr int threads = 256;
  F f;
  std::int64_t count;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t step = block.blocks() * block.size(), first = block.block() * block.size() + block.thread();
    const std::int64_t packs = count / W;
    for (std::int64_t i = first; i < packs; i += step) f.template at<W>(i * W);
    if constexpr (W > 1)
      for (std::int64_t i = packs * W + first; i < count; i += step) f.template at<1>(i);
  }
};

inline LaunchShape each_shape(std::int64_t count) {
  constexpr std::int64_t threads = 256, most_blocks = 65535;
  const std::int64_t blocks = (count + threads - 1) / threads;
  return {.blocks = blocks < most_blocks ? blocks : most_blocks};
}

/// f(i) for every i below count, on the compute stream.
template <class F>
void for_each_element(const F& f, std::int64_t count) {
  if (count <= 0) return;
  launch(EachKernel<F>{f, count}, each_shape(count));
}

/// A kernel with a warp a row, on the compute stream.
template <class Kernel>
void for_each_warp(const Kernel& kernel, std::int64_t rows) {
  constexpr std::int64_t warps = Kernel::threads / warp_threads;
  if (rows > 0) launch(kernel, {.blocks = (rows + warps - 1) / warps});
}

inline bool is_aligned_16(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

/// Every array begins at a pack.
template <class... P>
bool aligned(const P*... arrays) {
  return (is_aligned_16(arrays) && ...);
}
/// Rows are whole packs, too.
template <class T, class... P>
bool in_packs(std::int64_t width, const P*... arrays) {
  return width % pack_width<T> == 0 && aligned(arrays...);
}

/// f.at<W>(i) for every pack; `packs` says that every array is aligned and every row a whole number of packs.
template <class T, class F>
void for_each_pack(const F& f, std::int64_t count, bool packs) {
  if (count <= 0) return;
  constexpr int width = pack_width<T>;
  if (packs) launch(EachPackKernel<width, F>{f, count}, each_shape((count + width - 1) / width));
  else launch(EachPackKernel<1, F>{f, count}, each_shape(count));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
