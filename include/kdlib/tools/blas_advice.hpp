// SPDX-License-Identifier: Apache-2.0
// What a program says where OpenBLAS takes kernels for CPUs of long ago.
#ifndef KDLIB_TOOLS_BLAS_ADVICE_HPP
#define KDLIB_TOOLS_BLAS_ADVICE_HPP

#include <cstdlib>
#include <string>
#include <string_view>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// OpenBLAS chooses its kernels by a list of CPUs when it is loaded, and those of 2004 for a CPU that is newer than the
/// list: products are then several times slower. What to set in that case; empty where its kernels fit the CPU.
/// `blas`: cpu_blas_name(), whose last words name the kernels. `level`: what the CPU can do.
inline std::string blas_advice(std::string_view blas, CpuLevel level) {
  if (level == CpuLevel::portable || blas.find("Prescott") == std::string_view::npos) return {};
  return concat("OpenBLAS does not know this CPU and multiplies by its kernels for Prescott: set OPENBLAS_CORETYPE=",
                level == CpuLevel::avx512 ? "SKYLAKEX" : "Haswell", " in the environment, and products are several ",
                "times faster");
}

KDLIB_NAMESPACE_END

#endif
