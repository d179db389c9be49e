// SPDX-License-Identifier: Apache-2.0
// The Block of a device, and the launch of a kernel that is written against it. nvcc only.
#ifndef KDLIB_BACKEND_CUDA_DEVICE_BLOCK_CUH
#define KDLIB_BACKEND_CUDA_DEVICE_BLOCK_CUH

#include <cuda_runtime.h>

#include <cstring>

#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/backend/cuda/context.cuh"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Shared memory as a pointer.
template <class X>
class DeviceShared {
 public:
  DeviceShared() = default;
  __device__ explicit DeviceShared(X* data) : data_(data) {}
  __device__ X& operator[](std::int64_t i) const { return data_[i]; }
  __device__ const X& read(std::int64_t i) const { return data_[i]; }
  __device__ X& write(std::int64_t i) const { return data_[i]; }
  __device__ const X* read(std::int64_t i, std::int64_t) const { return data_ + i; }
  __device__ X* write(std::int64_t i, std::int64_t) const { return data_ + i; }

 private:
  X* data_;
};

/// The block as the device has it.
class DeviceBlock {
 public:
  template <class X>
  using Shared = DeviceShared<X>;

  __device__ std::int64_t block() const { return blockIdx.x; }
  __device__ std::int64_t block_y() const { return blockIdx.y; }
  __device__ std::int64_t blocks() const { return gridDim.x; }
  __device__ std::int64_t thread() const { return threadIdx.x; }
  __device__ std::int64_t size() const { return blockDim.x; }
  __device__ void barrier() const { __syncthreads(); }
  __device__ void warp_barrier() const { __syncwarp(); }
  template <class X>
  __device__ Shared<X> shared(std::int64_t offset, std::int64_t) const {
    extern __shared__ __align__(16) unsigned char kdlib_shared_memory[];
    return Shared<X>(reinterpret_cast<X*>(kdlib_shared_memory + offset));
  }
  template <class X>
  __device__ X shuffle_down(const X& x, int offset) const {
    return by_words(x,
                    [offset](unsigned w) { return __shfl_down_sync(0xFFFFFFFFu, w, static_cast<unsigned>(offset)); });
  }
  template <class X>
  __device__ X shuffle_xor(const X& x, int mask) const {
    return by_words(x, [mask](unsigned w) { return __shfl_xor_sync(0xFFFFFFFFu, w, mask); });
  }
  template <class X>
  __device__ X shuffle(const X& x, int lane) const {
    return by_words(x, [lane](unsigned w) { return __shfl_sync(0xFFFFFFFFu, w, lane); });
  }
  __device__ std::uint32_t ballot(bool p) const { return __ballot_sync(0xFFFFFFFFu, p); }
  __device__ std::int32_t atomic_add(std::int32_t* at, std::int32_t x) const { return atomicAdd(at, x); }
  __device__ std::int32_t atomic_or(std::int32_t* at, std::int32_t x) const { return atomicOr(at, x); }

 private:
  template <class X, class F>
  __device__ static X by_words(const X& x, F f) {
    static_assert(sizeof(X) % sizeof(unsigned) == 0);
    constexpr int words = sizeof(X) / sizeof(unsigned);
    unsigned word[words];
    memcpy(word, &x, sizeof(X));
#pragma unroll
    for (int k = 0; k < words; ++k) word[k] = f(word[k]);
    X out;
    memcpy(&out, word, sizeof(X));
    return out;
  }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads) run_kernel(const __grid_constant__ Kernel kernel) {
  DeviceBlock block;
  kernel(block);
}

/// Whether the current device can run the kernel: code, or PTX of a lower capability, was compiled for it.
template <class Kernel>
bool can_run() {
  cudaFuncAttributes attributes{};
  const bool can = cudaFuncGetAttributes(&attributes, run_kernel<Kernel>) == cudaSuccess;
  cudaGetLastError();  // an answer, not a failure
  return can;
}

/// Starts a kernel on a stream (nullptr: the compute stream) and does not wait. BackendError where it cannot start.
template <class Kernel>
void launch(const Kernel& kernel, const LaunchShape& shape, void* stream = nullptr) {
  static_assert(Block<DeviceBlock>, "the device's block has what kernels are written against");
  if (shape.blocks == 0 || shape.blocks_y == 0 || is_dry()) return;
  if (shape.shared_bytes > 48 * 1024)
    check_cuda(cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)),
               "shared memory of a kernel");
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.blocks_y));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads > 0 ? shape.threads : Kernel::threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shape.shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream == nullptr ? compute_stream() : stream);
  check_cuda(cudaLaunchKernelEx(&config, run_kernel<Kernel>, kernel), "a kernel's launch");
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
