// SPDX-License-Identifier: Apache-2.0
// Device memory, device and library texts, and the matrix products of kdlib::cuda.
#include "kdlib/backend/cuda/context.cuh"

#include "kdlib/backend/cuda/gemm.cuh"

KDLIB_NAMESPACE_BEGIN

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // forget it: no driver is an answer, not a failure
  return 0;
}

std::string cuda_device_text() {
  require<BackendError>(
      cuda_device_count() > 0,
      "[cuda] no device answers; run with the CPU backend (kdlib/backend/cpu.hpp) or on a machine with a GPU");
  int device = 0;
  detail::check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp properties{};
  detail::check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return concat(static_cast<const char*>(properties.name), ", compute capability ", properties.major, ".",
                properties.minor);
}

std::string cuda_library_text() {
  int runtime = 0, major = 0, minor = 0, patch = 0;
  detail::check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  detail::check_cublas(cublasGetProperty(MAJOR_VERSION, &major), "cublasGetProperty");
  detail::check_cublas(cublasGetProperty(MINOR_VERSION, &minor), "cublasGetProperty");
  detail::check_cublas(cublasGetProperty(PATCH_LEVEL, &patch), "cublasGetProperty");
  return concat("CUDA runtime ", runtime / 1000, ".", runtime % 1000 / 10, ", cuBLAS ", major, ".", minor, ".", patch);
}

void cuda_synchronize() { detail::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

void* Memory<Cuda>::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* p = nullptr;
  const cudaError_t status = cudaMalloc(&p, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    fail<BackendError>("[cuda] cannot allocate ", bytes, " bytes: ", free, " of ", total,
                       " are free; use a smaller batch, length or chunk");
  }
  detail::check_cuda(status, "cudaMalloc");
  memory_use<Cuda>().add(static_cast<std::int64_t>(bytes));
  return p;
}

void Memory<Cuda>::release(void* p, std::size_t bytes) noexcept {
  if (p == nullptr) return;
  cudaFree(p);
  memory_use<Cuda>().now.fetch_sub(static_cast<std::int64_t>(bytes));
}

void Memory<Cuda>::fill_zero(void* p, std::size_t bytes) {
  if (bytes != 0) detail::check_cuda(cudaMemset(p, 0, bytes), "cudaMemset");
}
void Memory<Cuda>::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0) detail::check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToDevice), "cudaMemcpy on the device");
}
void Memory<Cuda>::from_host(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0) detail::check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
}
void Memory<Cuda>::to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0) detail::check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
}

template struct detail::CudaGemm<float>;
template struct detail::CudaGemm<double>;
template struct detail::CudaGemm<bf16>;
template struct detail::CudaGemm<f16>;

KDLIB_NAMESPACE_END
