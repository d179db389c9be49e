// SPDX-License-Identifier: Apache-2.0
// launch(kernel, shape, stream) for the compiler that reads it: nvcc launches on a device, a host compiler on the
// emulated device of kdlib::cuda_emulated.
#ifndef KDLIB_BACKEND_CUDA_LAUNCH_HPP
#define KDLIB_BACKEND_CUDA_LAUNCH_HPP

#if defined(__CUDACC__)
#include "kdlib/backend/cuda/device_block.cuh"
#elif defined(KDLIB_CUDA_EMULATED)
#include "kdlib/backend/cuda/emulated/launch.hpp"
#else
#error \
    "kdlib: CUDA kernels are compiled by nvcc, in a .cu file, or by any compiler for the emulated device: link \
kdlib::cuda_emulated"
#endif

#endif
