// SPDX-License-Identifier: Apache-2.0
// The CUDA backend as a host compiler sees it: memory of the device and the kernels that exist so far, as declarations.
// The CMake target kdlib::cuda compiles kdlib's src/cuda (the .cu files by nvcc) and links CUDA's libraries.
// kdlib::cuda_emulated compiles the same .cu files with the host compiler for a device that is emulated on the host:
// the same functions, no GPU and no toolkit, for tests.
//
// What exists: Memory<Cuda>, Kernels<Cuda, T>::gemm (cuBLAS), elementwise and attention kernels, and what row_loss and
// head_loss need (float, bf16). Models need more kernels than that: a Decoder<Cuda, T> does not compile yet, and the
// compiler names the missing kernel.
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
/// Refuses sizes and leading dimensions that no product has.
inline void check_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                       std::int64_t lda, std::int64_t ldb, std::int64_t ldc) {
  require<ShapeError>(m >= 0 && n >= 0 && k >= 0, "[gemm] sizes ", m, ", ", n, ", ", k, " must not be negative");
  require<ShapeError>(lda >= (transpose_a ? m : k) && ldb >= (transpose_b ? k : n) && ldc >= n,
                      "[gemm] leading dimensions ", lda, ", ", ldb, ", ", ldc,
                      " are below the row lengths of a product of ", m, " x ", n, " x ", k);
}

template <class T>
struct CudaGemm {
  using C = accumulate_t<T>;
  /// C[m,n] = alpha * op(A) op(B) + beta * C on the device; op = transpose where the flag is set. Row-major, leading
  /// dimensions in elements. float and double multiply in their own precision (no TF32); bf16 and f16 add in float and
  /// round once. beta = 0 never reads C.
  static void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                   const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, T* c, std::int64_t ldc);
};
template <class T>
struct CudaRowCopies {
  /// As Kernels<Cpu, T>: out[r, :] = x[rows[r], :] and y[rows[r], :] += x[r, :], `rows` on the host.
  static void gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* out);
  static void scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width, T* y);
};
/// As CpuElementwise with every array on the device; nothing is waited for but by sum_squares. T is float or bf16.
/// Sums, angles and gradients of parameters are of C = accumulate_t<T>.
template <class T>
struct CudaElementwise {
  using C = accumulate_t<T>;
  static void embedding(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* table, T* out);
  static void embedding_backward(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* gradient,
                                 C* table_gradient);
  static void rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon, T* y,
                       C* inverse_rms);
  static void rms_norm_backward(const T* x, const T* weight, const C* inverse_rms, const T* gradient, std::int64_t rows,
                                std::int64_t width, T* x_gradient, bool accumulate, C* weight_gradient);
  static void rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads, std::int64_t head_size,
                   const C* cosine, const C* sine, bool inverse);
  static void swiglu(const T* gate, const T* up, std::int64_t n, T* y);
  static void swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                              T* up_gradient);
  static void add(const T* a, const T* b, std::int64_t n, T* y);
  static void axpy(std::int64_t n, C alpha, const T* x, T* y);
  static void scale(std::int64_t n, C alpha, T* x);
  static void add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y);
  static void add_column_sums(const T* x, std::int64_t rows, std::int64_t width, C* sums);
  static void scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x);
  static void add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y);
  static void add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n, std::int64_t width,
                                 T* gate_gradient, T* x_gradient);
  /// Waits for the device.
  static double sum_squares(const T* x, std::int64_t n);
  static void adamw(const AdamWStep& step, std::int64_t n, const C* gradient, C* first, C* second, T* value);
};

/// As CpuAttention with every array on the device, the documents' offsets among them. Head sizes up to 256; log_sum is
/// of C = accumulate_t<T>. Nothing is waited for.
template <class T>
struct CudaAttention {
  using C = accumulate_t<T>;
  static void attention(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                        const T* v, T* out, C* log_sum);
  static void attention_backward(const AttentionHeads& heads, const DocumentRanges& documents, const T* q, const T* k,
                                 const T* v, const T* out, const C* log_sum, const T* out_gradient, T* q_gradient,
                                 T* k_gradient, T* v_gradient);
  static void attention_decode(const AttentionHeads& heads, const DocumentRanges& documents,
                               const CacheRanges<T>& cache, const T* q, const T* k, const T* v, T* out, C* log_sum);
  static void attention_sinks(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks, T* out,
                              C* log_sum);
  static void attention_sinks_backward(std::int64_t tokens, std::int64_t heads, std::int64_t head_size, const T* sinks,
                                       const T* out, const C* log_sum, const T* out_gradient, C* sinks_gradient);
};
}  // namespace detail

template <>
struct Kernels<Cuda, float> : detail::CudaGemm<float>,
                              detail::CudaRowCopies<float>,
                              detail::CudaElementwise<float>,
                              detail::CudaAttention<float> {};
template <>
struct Kernels<Cuda, double> : detail::CudaGemm<double> {};
template <>
struct Kernels<Cuda, bf16> : detail::CudaGemm<bf16>,
                             detail::CudaRowCopies<bf16>,
                             detail::CudaElementwise<bf16>,
                             detail::CudaAttention<bf16> {};
template <>
struct Kernels<Cuda, f16> : detail::CudaGemm<f16> {};

KDLIB_NAMESPACE_END

#endif
