// SPDX-License-Identifier: Apache-2.0
// Defines the marks for compilers and the inline namespace that every other header opens.
#ifndef KDLIB_CONFIG_HPP
#define KDLIB_CONFIG_HPP

#include "kdlib/version.hpp"

#if defined(__CUDACC__)
#define KDLIB_HOST_DEVICE __host__ __device__
#else
#define KDLIB_HOST_DEVICE
#endif

// Codecs, samplers and file formats promise results that are equal to their formulas bit for bit. The compiler modes
// tested here replace a formula by another one, drop the tests for NaN and infinity, and flush subnormal numbers to
// zero in the whole program.
#if !defined(KDLIB_ALLOW_FAST_MATH) && (defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || \
                                        (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0))
#error \
    "kdlib: -ffast-math, -Ofast, -fassociative-math and -ffinite-math-only change results and hide NaN; compile \
without them, or define KDLIB_ALLOW_FAST_MATH to give up the documented bits"
#endif

// Functions without template parameters are inline, so that a program needs nothing but the headers. A program that
// links the compiled functions (kdlib::functions, which comes with kdlib::instances) reads only their declarations.
#if defined(KDLIB_USES_FUNCTIONS)
#define KDLIB_HEADER_ONLY 0
#define KDLIB_FUNC
#else
#define KDLIB_HEADER_ONLY 1
#define KDLIB_FUNC inline
#endif
// These macros do the same for kdlib/tools/, which has optional dependencies of its own.
#if defined(KDLIB_USES_TOOL_FUNCTIONS)
#define KDLIB_TOOLS_HEADER_ONLY 0
#define KDLIB_TOOLS_FUNC
#else
#define KDLIB_TOOLS_HEADER_ONLY 1
#define KDLIB_TOOLS_FUNC inline
#endif

#define KDLIB_NAMESPACE_BEGIN \
  namespace kdlib {           \
  inline namespace v0 {
#define KDLIB_NAMESPACE_END \
  }                         \
  }

#endif
