// SPDX-License-Identifier: Apache-2.0
// The kernels that kdlib::instances holds compiled; kdlib/backend/instances.hpp says how they come to be used. This
// list stands apart, so that its translation units depend on the backend and the losses alone.
//
// Each list declares its instantiations with `extern` as its argument and defines them with none (src/instances_*.cpp).
// T is the scalar type.
#ifndef KDLIB_BACKEND_CPU_INSTANCES_HPP
#define KDLIB_BACKEND_CPU_INSTANCES_HPP

/// Matrix products, element-wise kernels, attention and experts.
#define KDLIB_INSTANCES_OF_KERNELS(KDLIB_EXTERN, T)              \
  KDLIB_EXTERN template struct kdlib::detail::CpuGemm<T>;        \
  KDLIB_EXTERN template struct kdlib::detail::CpuElementwise<T>; \
  KDLIB_EXTERN template struct kdlib::detail::CpuAttention<T>;   \
  KDLIB_EXTERN template struct kdlib::detail::CpuExperts<T>;

/// Products with weights that stay in a coded or a file's format.
#define KDLIB_INSTANCES_OF_PACKED(KDLIB_EXTERN, T) KDLIB_EXTERN template struct kdlib::detail::CpuPacked<T>;

/// Kernels<Cpu, bf16>.
#define KDLIB_INSTANCES_OF_WIDENED(KDLIB_EXTERN, T)                  \
  KDLIB_EXTERN template struct kdlib::detail::WidenedGemm<T>;        \
  KDLIB_EXTERN template struct kdlib::detail::WidenedElementwise<T>; \
  KDLIB_EXTERN template struct kdlib::detail::WidenedAttention<T>;   \
  KDLIB_EXTERN template struct kdlib::detail::WidenedExperts<T>;     \
  KDLIB_EXTERN template struct kdlib::detail::WidenedPacked<T>;

/// Rows of one loss.
#define KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, KDLIB_LOSS)                           \
  KDLIB_EXTERN template void kdlib::RowKernels<kdlib::Cpu, T>::run<kdlib::KDLIB_LOSS>( \
      const kdlib::KDLIB_LOSS&, const kdlib::RowTask<T>&, kdlib::RowResult*);

#define KDLIB_INSTANCES_OF_ROWS(KDLIB_EXTERN, T)          \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, ForwardKl)     \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, ReverseKl)     \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, CrossEntropy)  \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, JensenShannon) \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, SkewForwardKl) \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, SkewReverseKl) \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, T, TotalVariation)

// The lists stand before the headers, because kdlib/backend/cpu.hpp ends by using them.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/losses.hpp"

#endif
