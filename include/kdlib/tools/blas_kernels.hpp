// SPDX-License-Identifier: Apache-2.0
// OpenBLAS chooses its kernels by a list of CPUs when it is loaded, and for a CPU that is newer than the list it takes
// those of 2004: products are then three to eight times slower. Only the environment changes its choice, before it is
// loaded.
#ifndef KDLIB_TOOLS_BLAS_KERNELS_HPP
#define KDLIB_TOOLS_BLAS_KERNELS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// What OPENBLAS_CORETYPE should say where OpenBLAS, by its own words `config`, took its kernels for Prescott; null
/// where they fit. `level`: KDLIB_CPU_LEVEL or null; a lower level than the CPU's is kept by the products, too.
const char* better_blas_kernels(std::string_view config, const char* level);

/// For the first line of main: where OpenBLAS has taken kernels that do not fit the CPU and the environment names none
/// (OPENBLAS_CORETYPE), starts the program again, as the same process, with those that do. Returns where nothing is to
/// be done, or where the program cannot be started again.
void choose_blas_kernels();

namespace detail {
/// This process's own words, from /proc; empty where they cannot be read.
std::vector<std::string> own_arguments();
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/blas_kernels_inl.hpp"
#endif

#endif
