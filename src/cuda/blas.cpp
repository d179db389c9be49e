// SPDX-License-Identifier: Apache-2.0
// Matrix products of kdlib::cuda by cuBLASLt.
#include <cublasLt.h>

#include "kdlib/backend/cuda/context.cuh"
#include "products.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

constexpr std::size_t workspace_bytes = std::size_t{64} << 20;

cudaDataType data_type(DType type) {
  return type == DType::f64    ? CUDA_R_64F
         : type == DType::bf16 ? CUDA_R_16BF
         : type == DType::f16  ? CUDA_R_16F
                               : CUDA_R_32F;
}

/// cuBLASLt with one workspace, which all products of the compute stream use one after the other and captured graphs
/// keep: it is never given back. float is multiplied without TF32; sums of 16-bit factors are kept in float, those of
/// parts of k too, and are rounded once.
class LtLibrary {
 public:
  struct Program {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t first, second, result;
    cublasLtMatmulAlgo_t algorithm;
    std::size_t workspace;
  };

  bool capturing() const { return is_capturing(); }

  Program choose(const ProductKey& key) {
    open();
    Program p{};
    const bool is_double = key.factors == DType::f64;
    check_cublas(cublasLtMatmulDescInit(&p.operation, is_double ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                        is_double ? CUDA_R_64F : CUDA_R_32F),
                 "cublasLtMatmulDescInit");
    const ColumnMajorProduct product = column_major(key);
    set_transposed(p, CUBLASLT_MATMUL_DESC_TRANSA, product.transpose_first);
    set_transposed(p, CUBLASLT_MATMUL_DESC_TRANSB, product.transpose_second);
    set_layout(p.first, product.first, key.factors);
    set_layout(p.second, product.second, key.factors);
    set_layout(p.result, product.result, key.result);
    cublasLtMatmulPreferenceOpaque_t wishes{};
    check_cublas(cublasLtMatmulPreferenceInit(&wishes), "cublasLtMatmulPreferenceInit");
    set_wish(wishes, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    set_wish(wishes, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    set_wish(wishes, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(key.alignment_b));
    set_wish(wishes, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(key.alignment_a));
    set_wish(wishes, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(key.alignment_c));
    set_wish(wishes, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(key.alignment_c));
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, &p.operation, &p.first, &p.second, &p.result,
                                                                 &p.result, &wishes, 1, &found, &count);
    require<BackendError>(status != CUBLAS_STATUS_NOT_SUPPORTED && (status != CUBLAS_STATUS_SUCCESS || count > 0),
                          "[cuda] cuBLASLt has no algorithm for ", key.text());
    check_cublas(status, "cublasLtMatmulAlgoGetHeuristic");
    check_cublas(found.state, "cublasLtMatmulAlgoGetHeuristic");
    p.algorithm = found.algo;
    p.workspace = found.workspaceSize;
    return p;
  }

  void run(const Program& p, const void* alpha, const void* a, const void* b, const void* beta, void* c) const {
    Program q = p;  // the library takes its descriptors as changeable
    check_cublas(
        cublasLtMatmul(handle_, &q.operation, alpha, b, &q.first, a, &q.second, beta, c, &q.result, c, &q.result,
                       &q.algorithm, workspace_, q.workspace, static_cast<cudaStream_t>(compute_stream())),
        "cublasLtMatmul");
  }

  void clear(void* c, const ProductKey& key) const {
    const std::size_t bytes = key.result == DType::f64 ? 8 : key.result == DType::f32 ? 4 : 2;
    check_cuda(
        cudaMemset2DAsync(c, static_cast<std::size_t>(key.ldc) * bytes, 0, static_cast<std::size_t>(key.n) * bytes,
                          static_cast<std::size_t>(key.m), static_cast<cudaStream_t>(compute_stream())),
        "cudaMemset2D");
  }

 private:
  void open() {
    if (handle_ != nullptr) return;
    check_cuda(cudaMalloc(&workspace_, workspace_bytes), "the workspace of cuBLASLt");
    check_cublas(cublasLtCreate(&handle_), "cublasLtCreate");
  }
  static void set_transposed(Program& p, cublasLtMatmulDescAttributes_t what, bool transposed) {
    const cublasOperation_t op = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    check_cublas(cublasLtMatmulDescSetAttribute(&p.operation, what, &op, sizeof(op)), "cublasLtMatmulDescSetAttribute");
  }
  static void set_layout(cublasLtMatrixLayoutOpaque_t& layout, const ColumnMajorProduct::Matrix& m, DType type) {
    check_cublas(cublasLtMatrixLayoutInit(&layout, data_type(type), static_cast<std::uint64_t>(m.rows),
                                          static_cast<std::uint64_t>(m.columns), m.ld),
                 "cublasLtMatrixLayoutInit");
  }
  template <class X>
  static void set_wish(cublasLtMatmulPreferenceOpaque_t& wishes, cublasLtMatmulPreferenceAttributes_t what, X value) {
    check_cublas(cublasLtMatmulPreferenceSetAttribute(&wishes, what, &value, sizeof(value)),
                 "cublasLtMatmulPreferenceSetAttribute");
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
};

/// Outlives every tensor and every graph.
Products<LtLibrary>& products() {
  static Products<LtLibrary>* const all = new Products<LtLibrary>;
  return *all;
}

}  // namespace

template <class T>
void CudaGemm<T>::gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                       const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, T* c, std::int64_t ldc) {
  products().multiply(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
template <class T>
void CudaMixed<T>::gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, C alpha,
                        const T* a, std::int64_t lda, const T* b, std::int64_t ldb, C beta, C* c, std::int64_t ldc) {
  products().multiply(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

template struct CudaGemm<float>;
template struct CudaGemm<double>;
template struct CudaGemm<bf16>;
template struct CudaGemm<f16>;
template void CudaMixed<bf16>::gemm(bool, bool, std::int64_t, std::int64_t, std::int64_t, float, const bf16*,
                                    std::int64_t, const bf16*, std::int64_t, float, float*, std::int64_t);

}  // namespace detail
KDLIB_NAMESPACE_END
