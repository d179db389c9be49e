// SPDX-License-Identifier: Apache-2.0
// The networks that tests of whole models share, compiled once, in models_test.cpp.
#ifndef KDLIB_TESTS_CUDA_DECODERS_HPP
#define KDLIB_TESTS_CUDA_DECODERS_HPP

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/kdlib.hpp"

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/rows.hpp"

#define KDLIB_TEST_DECODERS(KDLIB_EXTERN, T)                            \
  KDLIB_EXTERN template class kdlib::SelfAttention<kdlib::Cuda, T>;     \
  KDLIB_EXTERN template class kdlib::GatedFeedForward<kdlib::Cuda, T>;  \
  KDLIB_EXTERN template class kdlib::ExpertFeedForward<kdlib::Cuda, T>; \
  KDLIB_EXTERN template class kdlib::Decoder<kdlib::Cuda, T>;

KDLIB_TEST_DECODERS(extern, float)
KDLIB_TEST_DECODERS(extern, kdlib::bf16)

#endif
