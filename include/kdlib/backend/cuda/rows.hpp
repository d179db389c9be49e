// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine as a host compiler sees it. Its bodies are in rows.cuh; a loss reaches them through
// KDLIB_INSTANTIATE_LOSS.
#ifndef KDLIB_BACKEND_CUDA_ROWS_HPP
#define KDLIB_BACKEND_CUDA_ROWS_HPP

#include <cstdint>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// T is float, double, bf16 or f16. Everything that a task points to lies on the device.
template <class T>
struct RowKernels<Cuda, T> {
  /// As RowKernels<Cpu, T>::run, with `results` on the device; nothing is waited for. A program that calls it with a
  /// loss of its own needs one line KDLIB_INSTANTIATE_LOSS(Loss, T) in a .cu file; without it the linker names
  /// RowKernels<Cuda, T>::run<Loss>.
  template <class Loss>
  static void run(const Loss& loss, const RowTask<T>& task, RowResult* results);

  /// The same on a cudaStream_t; run() takes the compute stream.
  template <class Loss>
  static void launch(const Loss& loss, const RowTask<T>& task, RowResult* results, void* stream);

  /// factor->finite = 0 where a row's value is not finite or an id of its top-k is wrong. T is float or bf16, as below.
  static void check_values(const RowResult* results, std::int64_t rows, GradientFactor* factor);

  /// As RowKernels<Cpu, T>.
  static void modify_logits(const T* bias, T scale, float softcap, std::int64_t rows, std::int64_t columns, T* z);
  static void softcap_backward(float softcap, std::int64_t rows, std::int64_t columns, const T* z, T* gradient);
};

KDLIB_NAMESPACE_END

#endif
