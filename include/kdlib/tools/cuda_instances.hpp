// SPDX-License-Identifier: Apache-2.0
// The networks that this project's programs run with --device cuda. They are compiled in separate translation units
// (examples/sessions/cuda/). Programs that are built with CUDA include this header before all others.
#ifndef KDLIB_TOOLS_CUDA_INSTANCES_HPP
#define KDLIB_TOOLS_CUDA_INSTANCES_HPP

#include "kdlib/backend/cpu.hpp"
#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/rows.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/decoder.hpp"

/// Lists the instances. This header uses the list with the argument `extern`; the translation units use it with an
/// empty argument.
#define KDLIB_CUDA_MODEL_OF(KDLIB_EXTERN, T)                            \
  KDLIB_EXTERN template class kdlib::SelfAttention<kdlib::Cuda, T>;     \
  KDLIB_EXTERN template class kdlib::GatedFeedForward<kdlib::Cuda, T>;  \
  KDLIB_EXTERN template class kdlib::ExpertFeedForward<kdlib::Cuda, T>; \
  KDLIB_EXTERN template class kdlib::Decoder<kdlib::Cuda, T>;

#if !defined(KDLIB_DEFINES_SESSIONS)
KDLIB_CUDA_MODEL_OF(extern, float)
KDLIB_CUDA_MODEL_OF(extern, kdlib::bf16)
#endif

#endif
