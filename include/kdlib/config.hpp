// SPDX-License-Identifier: Apache-2.0
// Compiler marks and the inline namespace that every other header opens.
#ifndef KDLIB_CONFIG_HPP
#define KDLIB_CONFIG_HPP

#include "kdlib/version.hpp"

#if defined(__CUDACC__)
#define KDLIB_HOST_DEVICE __host__ __device__
#else
#define KDLIB_HOST_DEVICE
#endif

#define KDLIB_NAMESPACE_BEGIN \
  namespace kdlib {           \
  inline namespace v0 {
#define KDLIB_NAMESPACE_END \
  }                         \
  }

#endif
