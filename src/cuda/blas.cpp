// SPDX-License-Identifier: Apache-2.0
// Matrix products of kdlib::cuda by cuBLAS.
#include <memory>

#include "kdlib/backend/cuda/context.cuh"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

/// One handle a host thread with a workspace of its own, so that captured products find the same one at every launch.
cublasHandle_t cublas_handle() {
  struct Owner {
    cublasHandle_t handle = nullptr;
    void* workspace = nullptr;
    Owner() {
      check_cublas(cublasCreate(&handle), "cublasCreate");
      check_cublas(cublasSetStream(handle, static_cast<cudaStream_t>(compute_stream())), "cublasSetStream");
      check_cuda(cudaMalloc(&workspace, workspace_bytes), "the workspace of cuBLAS");
      check_cublas(cublasSetWorkspace(handle, workspace, workspace_bytes), "cublasSetWorkspace");
    }
    ~Owner() {
      cublasDestroy(handle);
      cudaFree(workspace);
    }
  };
  thread_local Owner owner;
  return owner.handle;
}

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

/// C of type Out. cuBLAS is column-major: a row-major C = op(A) op(B) is its C' = op(B)' op(A)', with A and B changed
/// over.
template <class T, class Out>
void multiply(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, accumulate_t<T> alpha,
              const T* a, std::int64_t lda, const T* b, std::int64_t ldb, accumulate_t<T> beta, Out* c,
              std::int64_t ldc) {
  check_gemm(transpose_a, transpose_b, m, n, k, lda, ldb, ldc);
  if (m == 0 || n == 0) return;
  using Type = CublasType<T>;
  check_cublas(
      cublasGemmEx_64(cublas_handle(), transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                      n, m, k, &alpha, b, Type::data, ldb, a, Type::data, lda, &beta, c, CublasType<Out>::data, ldc,
                      Type::compute, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

}  // namespace

template <class T>
void CudaGemm<T>::gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                       const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, T* c, std::int64_t ldc) {
  multiply(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
template <class T>
void CudaMixed<T>::gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                        const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, C* c, std::int64_t ldc) {
  multiply(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

template struct CudaGemm<float>;
template struct CudaGemm<double>;
template struct CudaGemm<bf16>;
template struct CudaGemm<f16>;
template void CudaMixed<bf16>::gemm(bool, bool, std::int64_t, std::int64_t, std::int64_t, float, const bf16*,
                                    std::int64_t, const bf16*, std::int64_t, float, float*, std::int64_t);

}  // namespace detail
KDLIB_NAMESPACE_END
