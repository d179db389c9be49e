// SPDX-License-Identifier: Apache-2.0
// Matrix products of the emulated device: formed in float (double for double) in a fixed order and rounded once.
#include <set>
#include <tuple>
#include <vector>

#include "device.hpp"
#include "kdlib/backend/cuda.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

/// op(X) [rows, columns] row by row in C.
template <class C, class T>
std::vector<C> unpacked(bool transposed, std::int64_t rows, std::int64_t columns, const T* x, std::int64_t ld) {
  std::vector<C> out(static_cast<std::size_t>(rows * columns));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      out[static_cast<std::size_t>(r * columns + c)] = static_cast<C>(transposed ? x[c * ld + r] : x[r * ld + c]);
  return out;
}

/// The bytes that a matrix of `rows` rows spans.
template <class T>
std::size_t extent(std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  return rows == 0 || columns == 0 ? 0 : static_cast<std::size_t>((rows - 1) * ld + columns) * sizeof(T);
}

template <class T, class Out>
struct Product {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  accumulate_t<T> alpha;
  const T* a;
  std::int64_t lda;
  const T* b;
  std::int64_t ldb;
  accumulate_t<T> beta;
  Out* c;
  std::int64_t ldc;

  void run() const {
    using C = accumulate_t<T>;
    const std::vector<C> left = unpacked<C>(transpose_a, m, k, a, lda), right = unpacked<C>(transpose_b, k, n, b, ldb);
    std::vector<C> row(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < m; ++i) {
      for (C& x : row) x = 0;
      for (std::int64_t p = 0; p < k; ++p) {
        const C x = left[static_cast<std::size_t>(i * k + p)];
        const C* y = right.data() + p * n;
        for (std::int64_t j = 0; j < n; ++j) row[static_cast<std::size_t>(j)] += x * y[j];
      }
      Out* out = c + i * ldc;
      for (std::int64_t j = 0; j < n; ++j) {
        C value = alpha * row[static_cast<std::size_t>(j)];
        if (beta != 0) value += beta * static_cast<C>(out[j]);
        out[j] = Out(value);
      }
    }
  }
};

template <class T, class Out>
void multiply(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, accumulate_t<T> alpha,
              const T* a, std::int64_t lda, const T* b, std::int64_t ldb, accumulate_t<T> beta, Out* c,
              std::int64_t ldc) {
  check_gemm(transpose_a, transpose_b, m, n, k, lda, ldb, ldc);
  if (m == 0 || n == 0) return;
  require<BackendError>(emulated_settings().devices > 0, "[cuda] no device answers");
  EmulatedDevice& d = emulated_device();
  const std::lock_guard<std::recursive_mutex> lock(d.mutex);
  // The library chooses its algorithm for a shape once, which it cannot do while a graph is captured.
  static std::set<std::tuple<bool, bool, std::int64_t, std::int64_t, std::int64_t>> warm;  // of these types
  const auto shape = std::tuple{transpose_a, transpose_b, m, n, k};
  require<BackendError>(d.capture == nullptr || warm.count(shape) != 0, "[cuda] a product of ", m, " x ", n, " x ", k,
                        " is captured that never ran; run the work once before");
  warm.insert(shape);
  std::vector<std::uint64_t> touched;
  const auto range = [&](const void* p, std::size_t bytes, const char* what) {
    if (bytes != 0) touched.push_back(d.memory.require_range(p, bytes, what).serial);
  };
  range(a, transpose_a ? extent<T>(k, m, lda) : extent<T>(m, k, lda), "gemm's a");
  range(b, transpose_b ? extent<T>(n, k, ldb) : extent<T>(k, n, ldb), "gemm's b");
  range(c, extent<Out>(m, n, ldc), "gemm's c");
  const Product<T, Out> product{transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc};
  d.enqueue(
      nullptr, [product, &d] { ++d.counts.products, product.run(); }, touched);
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
