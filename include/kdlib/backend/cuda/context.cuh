// SPDX-License-Identifier: Apache-2.0
// Errors of the CUDA libraries as BackendError. Needs the CUDA toolkit's headers; any compiler.
#ifndef KDLIB_BACKEND_CUDA_CONTEXT_CUH
#define KDLIB_BACKEND_CUDA_CONTEXT_CUH

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail<BackendError>("[cuda] ", what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

inline void check_cublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail<BackendError>("[cuda] ", what, ": ", cublasLtGetStatusString(status), " (", cublasLtGetStatusName(status), ")");
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
