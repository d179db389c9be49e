// SPDX-License-Identifier: Apache-2.0
// Lists the kernels that the library kdlib::instances holds compiled; kdlib/backend/instances.hpp says how a program
// uses them. The list is a file of its own so that the translation units that compile it depend only on the backend and
// the losses.
//
// With `extern` as the first argument, each macro declares its instantiations; with an empty first argument, it defines
// them (src/instances_*.cpp). T is the scalar type.
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

/// The kernels of Kernels<Cpu, bf16>.
#define KDLIB_INSTANCES_OF_WIDENED(KDLIB_EXTERN, T)                  \
  KDLIB_EXTERN template struct kdlib::detail::WidenedGemm<T>;        \
  KDLIB_EXTERN template struct kdlib::detail::WidenedElementwise<T>; \
  KDLIB_EXTERN template struct kdlib::detail::WidenedAttention<T>;   \
  KDLIB_EXTERN template struct kdlib::detail::WidenedExperts<T>;     \
  KDLIB_EXTERN template struct kdlib::detail::WidenedPacked<T>;

/// The row engine for one loss.
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

// These headers are included after the macros, because the end of kdlib/backend/cpu.hpp uses the macros.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/losses.hpp"

#endif
