// SPDX-License-Identifier: Apache-2.0
// The CUDA backend as a host compiler sees it: memory of the device and the kernels that exist so far, as declarations.
// The bodies are in cuda/*.cuh and are compiled by nvcc in kdlib's src/cuda/*.cu, which the CMake target kdlib::cuda
// builds and links.
//
// What exists: Memory<Cuda>, Kernels<Cuda, T>::gemm (cuBLAS) and what row_loss and head_loss need (float, bf16). Models
// need more kernels than that: a Decoder<Cuda, T> does not compile yet, and the compiler names the missing kernel.
#ifndef KDLIB_BACKEND_CUDA_HPP
#define KDLIB_BACKEND_CUDA_HPP

#include <cstddef>
#include <cstdint>
#include <string>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Devices that answer; 0 where there is no GPU or no driver. Never throws.
int cuda_device_count();
/// "NVIDIA H200, compute capability 9.0"; BackendError where no device answers.
std::string cuda_device_text();
/// "CUDA runtime 13.0, cuBLAS 13.1.0": what the program is linked with, with or without a device.
std::string cuda_library_text();
/// Waits for everything that was started on the device and reports what failed there.
void cuda_synchronize();

/// Memory of the current device. A request that cannot be met is a BackendError that says how much is free.
template <>
struct Memory<Cuda> {
  static void* allocate(std::size_t bytes);
  static void release(void* p, std::size_t bytes) noexcept;
  static void fill_zero(void* p, std::size_t bytes);
  static void copy(void* to, const void* from, std::size_t bytes);  // both on the device
  static void from_host(void* to, const void* from, std::size_t bytes);
  static void to_host(void* to, const void* from, std::size_t bytes);
};

namespace detail {
template <class T>
struct CudaGemm {
  /// C[m,n] = alpha * op(A) op(B) + beta * C on the device; op = transpose where the flag is set. Row-major, leading
  /// dimensions in elements. float and double multiply in their own precision (no TF32); bf16 and f16 add in float and
  /// round once.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc);
};
template <class T>
struct CudaRowCopies {
  /// As Kernels<Cpu, T>: out[r, :] = x[rows[r], :] and y[rows[r], :] += x[r, :], `rows` on the host.
  static void gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* out);
  static void scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* y);
};
}  // namespace detail

template <>
struct Kernels<Cuda, float> : detail::CudaGemm<float>, detail::CudaRowCopies<float> {};
template <>
struct Kernels<Cuda, double> : detail::CudaGemm<double> {};
template <>
struct Kernels<Cuda, bf16> : detail::CudaGemm<bf16>, detail::CudaRowCopies<bf16> {};
template <>
struct Kernels<Cuda, f16> : detail::CudaGemm<f16> {};

KDLIB_NAMESPACE_END

#endif
