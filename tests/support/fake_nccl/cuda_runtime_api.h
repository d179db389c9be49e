// SPDX-License-Identifier: Apache-2.0
// As much of the CUDA runtime as src/nccl/nccl.cpp uses, on the host: its test needs no device.
#ifndef KDLIB_TESTS_SUPPORT_FAKE_CUDA_RUNTIME_API_H
#define KDLIB_TESTS_SUPPORT_FAKE_CUDA_RUNTIME_API_H

#include <cstdlib>
#include <cstring>

enum cudaError_t { cudaSuccess, cudaErrorNotReady, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
using cudaStream_t = int*;
constexpr unsigned cudaStreamNonBlocking = 1;

inline const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "out of memory"; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaMalloc(void** memory, std::size_t size) {
  *memory = std::malloc(size);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new int(3);  // asks that say "not ready" before it is
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if ((*stream)-- > 0) return cudaErrorNotReady;
  *stream = 3;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind, cudaStream_t) {
  if (size > 0) std::memcpy(to, from, size);
  return cudaSuccess;
}

#endif
