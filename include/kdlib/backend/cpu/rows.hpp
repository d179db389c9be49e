// SPDX-License-Identifier: Apache-2.0
// The CPU row engine: any row loss, value, gradient and metrics of rows of logits. Rows are spread over the thread
// pool, each walked by one thread, so results do not depend on the thread count. AVX-512, AVX2 and portable bodies are
// chosen at run time (cpu_level()).
//
// A row is walked two or three times in blocks that fit the first cache:
//   1. running maximum, sum of exponentials and the moments the loss asks for, in fp32 lanes, added up in double;
//   2. value and gradient of each entry, in place; or, where sum h is not known from the first sweep, f, h and p_s are
//   kept and
//   3. the gradient h - p_s sum h is formed.
#ifndef KDLIB_BACKEND_CPU_ROWS_HPP
#define KDLIB_BACKEND_CPU_ROWS_HPP

#include <cstdint>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16>) struct RowKernels<Cpu, T> {
  /// Writes gradient[r, 0..columns) = scale * weight_r * d value_r / d student and results[0..rows).
  template <class Loss>
  static void run(const Loss& loss, const RowTask<T>& task, RowResult* results);

  /// z = c tanh((z + scale * bias) / c) on [rows, columns], in place; bias nullptr and c = 0 leave their part out.
  static void modify_logits(const T* bias, T scale, float softcap, std::int64_t rows, std::int64_t columns, T* z);
  /// gradient *= 1 - (z / c)^2, z the capped logits.
  static void softcap_backward(float softcap, std::int64_t rows, std::int64_t columns, const T* z, T* gradient);
};

KDLIB_NAMESPACE_END

#include "kdlib/backend/cpu/rows_inl.hpp"

// All kernels are defined here, so a target that links kdlib::instances learns which of them it need not compile.
#if defined(KDLIB_USES_INSTANCES)
#include "kdlib/backend/instances.hpp"
#endif

#endif
