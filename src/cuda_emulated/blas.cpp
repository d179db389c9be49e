// SPDX-License-Identifier: Apache-2.0
// Matrix products of the emulated device: formed in float (double for double) in a fixed order and rounded once, by a
// column-major library as cuBLASLt is one.
#include <cstring>
#include <vector>

#include "../cuda/products.hpp"
#include "device.hpp"
#include "kdlib/backend/cuda.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

using Matrix = ColumnMajorProduct::Matrix;

/// op(X) [rows, columns], where op transposes what is stored: column by column in C.
template <class C, class T>
std::vector<C> unpacked(bool transposed, const Matrix& stored, const T* x) {
  const std::int64_t rows = transposed ? stored.columns : stored.rows,
                     columns = transposed ? stored.rows : stored.columns;
  std::vector<C> out(static_cast<std::size_t>(rows * columns));
  for (std::int64_t c = 0; c < columns; ++c)
    for (std::int64_t r = 0; r < rows; ++r)
      out[static_cast<std::size_t>(c * rows + r)] =
          static_cast<C>(transposed ? x[r * stored.ld + c] : x[c * stored.ld + r]);
  return out;
}

/// result = alpha op(first) op(second) + beta result.
template <class T, class Out>
void run_product(const ColumnMajorProduct& p, accumulate_t<T> alpha, const T* first, const T* second,
                 accumulate_t<T> beta, Out* result) {
  using C = accumulate_t<T>;
  const std::vector<C> left = unpacked<C>(p.transpose_first, p.first, first),
                       right = unpacked<C>(p.transpose_second, p.second, second);
  const std::int64_t rows = p.result.rows, terms = p.transpose_first ? p.first.rows : p.first.columns;
  std::vector<C> column(static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < p.result.columns; ++i) {
    for (C& x : column) x = 0;
    for (std::int64_t t = 0; t < terms; ++t) {
      const C x = right[static_cast<std::size_t>(i * terms + t)];
      const C* y = left.data() + t * rows;
      for (std::int64_t j = 0; j < rows; ++j) column[static_cast<std::size_t>(j)] += x * y[j];
    }
    Out* out = result + i * p.result.ld;
    for (std::int64_t j = 0; j < rows; ++j) {
      C value = alpha * column[static_cast<std::size_t>(j)];
      if (beta != 0) value += beta * static_cast<C>(out[j]);
      out[j] = Out(value);
    }
  }
}

std::size_t bytes_of(DType type) { return type == DType::f64 ? 8 : type == DType::f32 ? 4 : 2; }

/// The host's library under the rules of cuBLASLt: it chooses outside of captures alone, and takes device memory.
class EmulatedLt {
 public:
  struct Program {
    ColumnMajorProduct product;
    DType factors, result;
  };

  bool capturing() const { return is_capturing(); }
  Program choose(const ProductKey& key) const {
    require<BackendError>(emulated_settings().devices > 0, "[cuda] no device answers");
    return {column_major(key), key.factors, key.result};
  }

  void run(const Program& p, const void* alpha, const void* a, const void* b, const void* beta, void* c) const {
    if (p.factors == DType::f64) queue<double, double>(p, alpha, b, a, beta, c);
    else if (p.factors == DType::f32) queue<float, float>(p, alpha, b, a, beta, c);
    else if (p.factors == DType::f16) queue<f16, f16>(p, alpha, b, a, beta, c);
    else if (p.result == DType::bf16) queue<bf16, bf16>(p, alpha, b, a, beta, c);
    else queue<bf16, float>(p, alpha, b, a, beta, c);
  }

  void clear(void* c, const ProductKey& key) const {
    EmulatedDevice& d = emulated_device();
    const std::lock_guard<std::recursive_mutex> lock(d.mutex);
    const auto row = static_cast<std::size_t>(key.n) * bytes_of(key.result),
               step = static_cast<std::size_t>(key.ldc) * bytes_of(key.result);
    const auto serial = d.memory.require_range(c, static_cast<std::size_t>(key.m - 1) * step + row, "gemm's c").serial;
    const auto fill = [c, row, step, m = key.m] {
      for (std::int64_t i = 0; i < m; ++i)
        std::memset(static_cast<char*>(c) + static_cast<std::size_t>(i) * step, 0, row);
    };
    d.enqueue(nullptr, fill, {serial});
  }

 private:
  template <class T, class Out>
  static void queue(const Program& p, const void* alpha, const void* first, const void* second, const void* beta,
                    void* result) {
    using C = accumulate_t<T>;
    EmulatedDevice& d = emulated_device();
    const std::lock_guard<std::recursive_mutex> lock(d.mutex);
    const auto bytes = [](const Matrix& m, DType type) {
      return static_cast<std::size_t>(m.extent()) * bytes_of(type);
    };
    const std::vector<std::uint64_t> touched = {
        d.memory.require_range(second, bytes(p.product.second, p.factors), "gemm's a").serial,
        d.memory.require_range(first, bytes(p.product.first, p.factors), "gemm's b").serial,
        d.memory.require_range(result, bytes(p.product.result, p.result), "gemm's c").serial};
    const auto work = [product = p.product, x = *static_cast<const C*>(alpha), y = *static_cast<const C*>(beta),
                       first = static_cast<const T*>(first), second = static_cast<const T*>(second),
                       result = static_cast<Out*>(result), &d] {
      ++d.counts.products;
      run_product<T, Out>(product, x, first, second, y, result);
    };
    d.enqueue(nullptr, work, touched);
  }
};

Products<EmulatedLt>& products() {
  static Products<EmulatedLt>* const all = new Products<EmulatedLt>;
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
