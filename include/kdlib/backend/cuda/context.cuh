// SPDX-License-Identifier: Apache-2.0
// Errors, the cuBLAS handle and memory of the CUDA backend. nvcc only.
#ifndef KDLIB_BACKEND_CUDA_CONTEXT_CUH
#define KDLIB_BACKEND_CUDA_CONTEXT_CUH

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail<BackendError>("[cuda] ", what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

inline void check_cublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail<BackendError>("[cuda] ", what, ": ", cublasGetStatusString(status), " (", cublasGetStatusName(status), ")");
}

/// One handle a host thread, made on first use on the current device.
inline cublasHandle_t cublas_handle() {
  struct Owner {
    cublasHandle_t handle = nullptr;
    Owner() { check_cublas(cublasCreate(&handle), "cublasCreate"); }
    ~Owner() { cublasDestroy(handle); }
  };
  thread_local Owner owner;
  return owner.handle;
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
