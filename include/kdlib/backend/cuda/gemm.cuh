// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLAS. nvcc only.
#ifndef KDLIB_BACKEND_CUDA_GEMM_CUH
#define KDLIB_BACKEND_CUDA_GEMM_CUH

#include "kdlib/backend/cuda/context.cuh"

KDLIB_NAMESPACE_BEGIN

namespace detail {

template <class T>
struct CublasType;
template <>
struct CublasType<float> {
  static constexpr cudaDataType data = CUDA_R_32F;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};
template <>
struct CublasType<double> {
  static constexpr cudaDataType data = CUDA_R_64F;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_64F;
};
template <>
struct CublasType<bf16> {
  static constexpr cudaDataType data = CUDA_R_16BF;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};
template <>
struct CublasType<f16> {
  static constexpr cudaDataType data = CUDA_R_16F;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};

/// cuBLAS is column-major: a row-major C = op(A) op(B) is its C' = op(B)' op(A)', with A and B changed over.
template <class T>
void CudaGemm<T>::gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                       const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  require<ShapeError>(m >= 0 && n >= 0 && k >= 0, "[gemm] sizes ", m, ", ", n, ", ", k, " must not be negative");
  require<ShapeError>(lda >= (transpose_a ? m : k) && ldb >= (transpose_b ? k : n) && ldc >= n,
                      "[gemm] leading dimensions ", lda, ", ", ldb, ", ", ldc,
                      " are below the row lengths of a product of ", m, " x ", n, " x ", k);
  if (m == 0 || n == 0) return;
  using Type = CublasType<T>;
  const accumulate_t<T> alpha_value = alpha, beta_value = beta;
  check_cublas(cublasGemmEx_64(cublas_handle(), transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                               transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &alpha_value, b, Type::data, ldb, a,
                               Type::data, lda, &beta_value, c, Type::data, ldc, Type::compute, CUBLAS_GEMM_DEFAULT),
               "cublasGemmEx");
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
