// SPDX-License-Identifier: Apache-2.0
// The CPU row engine: computes value, gradient and metrics of any row loss (loss/concepts.hpp) for rows of logits. Rows
// are divided among the threads of the pool and each row is computed by one thread, so results do not depend on the
// thread count. AVX-512, AVX2 or portable bodies are chosen at run time (cpu_level()).
//
// The engine goes over a row two or three times (sweeps), in blocks that fit the first cache:
//   1. It forms the running maximum, the sum of exponentials and the moments that the loss asks for, in fp32 lanes
//   that are added up in double.
//   2. It forms value and gradient of each entry in place. If sum h is not known from the first sweep, f, h and p_s are
//   kept instead, and
//   3. the third sweep forms the gradient h - p_s sum h.
#ifndef KDLIB_BACKEND_CPU_ROWS_HPP
#define KDLIB_BACKEND_CPU_ROWS_HPP

#include <cstdint>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16>) struct RowKernels<Cpu, T> {
  /// Writes gradient[r, 0..columns) = scale * weight_r * d value_r / d student[r], if task.gradient is set, and
  /// results[0..rows).
  template <class Loss>
  static void run(const Loss& loss, const RowTask<T>& task, RowResult* results);

  /// z = c tanh((z + scale * bias) / c) for z [rows, columns] in place, with c = softcap and bias [columns]. If bias is
  /// nullptr, nothing is added; if c = 0, there is no softcap.
  static void modify_logits(const T* bias, T scale, float softcap, std::int64_t rows, std::int64_t columns, T* z);
  /// gradient *= 1 - (z / c)^2, where z [rows, columns] are the capped logits and c = softcap.
  static void softcap_backward(float softcap, std::int64_t rows, std::int64_t columns, const T* z, T* gradient);
};

KDLIB_NAMESPACE_END

#include "kdlib/backend/cpu/rows_inl.hpp"

// At this point all kernels are defined. A target that links kdlib::instances learns here which of them it need not
// compile.
#if defined(KDLIB_USES_INSTANCES)
#include "kdlib/backend/instances.hpp"
#endif

#endif
