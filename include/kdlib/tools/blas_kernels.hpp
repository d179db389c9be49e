// SPDX-License-Identifier: Apache-2.0
// Chooses suitable kernels of OpenBLAS. When OpenBLAS is loaded, it chooses its kernels by a list of CPUs. For a CPU
// that is newer than this list it takes kernels of 2004, and products are then three to eight times slower. Only an
// environment variable that is set before OpenBLAS is loaded can change the choice.
#ifndef KDLIB_TOOLS_BLAS_KERNELS_HPP
#define KDLIB_TOOLS_BLAS_KERNELS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the value that the environment variable OPENBLAS_CORETYPE should have, or nullptr if the kernels fit. They
/// do not fit if `config`, OpenBLAS's description of itself, names the kernels for Prescott. `level` is the value of
/// KDLIB_CPU_LEVEL, or nullptr; if it asks for a lower level than that of the CPU, the kernels keep to this level.
const char* better_blas_kernels(std::string_view config, const char* level);

/// To be called in the first line of main. If OpenBLAS has chosen kernels that do not fit the CPU and OPENBLAS_CORETYPE
/// is not set, the function starts the program again, as the same process, with kernels that fit. It returns if nothing
/// needs to be done or if the program cannot be started again.
void choose_blas_kernels();

namespace detail {
/// Returns the command line of this process, read from /proc; empty if it cannot be read.
std::vector<std::string> own_arguments();
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/blas_kernels_inl.hpp"
#endif

#endif
