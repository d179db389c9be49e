// SPDX-License-Identifier: Apache-2.0
// What a program can know of a device before it starts work on it, and what it is refused for.
#ifndef KDLIB_BACKEND_CUDA_FACTS_HPP
#define KDLIB_BACKEND_CUDA_FACTS_HPP

#include <cstdint>
#include <string>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// CUDA versions are 1000 major + 10 minor.
struct CudaFacts {
  int runtime = 0;  // the CUDA version that the program is built with
  int driver = 0;   // the newest CUDA version that the driver knows; 0: no driver
  int devices = 0;  // that answer; what follows is of the current one
  std::string name;
  int major = 0, minor = 0;  // compute capability
  bool has_kernels = false;  // kdlib::cuda was compiled for this capability
  std::int64_t memory_bytes = 0, free_bytes = 0;
};
/// Of this machine. Never throws: what cannot be asked stays 0.
CudaFacts cuda_facts();

namespace detail {
/// "13.0"
inline std::string cuda_version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }
}  // namespace detail

/// BackendError with the next step: no driver, a driver older than the program's runtime, no device, a device that no
/// kernel was compiled for.
inline void require_cuda_device(const CudaFacts& f) {
  require<BackendError>(f.driver > 0,
                        "[cuda] no NVIDIA driver answers; install one, or run with --device cpu (backend/cpu.hpp)");
  require<BackendError>(f.driver / 1000 >= f.runtime / 1000, "[cuda] the driver knows CUDA up to ",
                        detail::cuda_version_text(f.driver), " and this program is built with CUDA ",
                        detail::cuda_version_text(f.runtime),
                        "; install a newer driver, or build with an older toolkit");
  require<BackendError>(f.devices > 0,
                        "[cuda] no device answers; run with the CPU backend (--device cpu, kdlib/backend/cpu.hpp) or "
                        "on a machine with a GPU (is CUDA_VISIBLE_DEVICES empty?)");
  require<BackendError>(f.has_kernels, "[cuda] ", f.name, " has compute capability ", f.major, ".", f.minor,
                        ", for which no kernel was compiled; build with -DCMAKE_CUDA_ARCHITECTURES=", f.major, f.minor,
                        f.major < 8 ? " (kdlib's kernels are made for 8.0 and later)" : "");
}

KDLIB_NAMESPACE_END

#endif
