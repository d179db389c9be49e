// SPDX-License-Identifier: Apache-2.0
// Bodies of session_types.hpp.
#ifndef KDLIB_TOOLS_SESSION_TYPES_INL_HPP
#define KDLIB_TOOLS_SESSION_TYPES_INL_HPP

#include "kdlib/tools/session_types.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_TOOLS_FUNC std::string missing_device_text(const std::string& program, const std::string& device,
                                                 const std::string& devices) {
  if (device == "cuda")
    return concat("[", program, "] --device cuda: this program was built for ", devices,
                  " alone. Build it with CUDA (needs nvcc 12 or later): cmake --preset cuda && cmake --build --preset "
                  "cuda --target ",
                  program);
  return concat("[", program, "] --device ", device, " is for --dry-run alone: this program trains whole models on ",
                devices);
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
