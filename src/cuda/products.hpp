// SPDX-License-Identifier: Apache-2.0
// Matrix products by a library that chooses an algorithm for a shape once and is asked for it again and again. Knows
// nothing of CUDA: kdlib::cuda gives it cuBLASLt, kdlib::cuda_emulated a library on the host.
#ifndef KDLIB_SRC_CUDA_PRODUCTS_HPP
#define KDLIB_SRC_CUDA_PRODUCTS_HPP

#include <compare>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/runtime.hpp"
#include "kdlib/core/dtype.hpp"
#include "recent_cache.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Of a matrix that is multiplied.
inline const char* product_type_text(DType type) {
  if (type == DType::f64) return "float64";
  if (type == DType::f32) return "float32";
  return type == DType::f16 ? "float16" : "bfloat16";
}

/// What an algorithm depends on: a row-major C[m,n] = alpha op(A) op(B) + beta C. Alignments are the bytes that divide
/// an address, 16 at most: no algorithm asks for more, and so the choice does not depend on where the arena put it.
struct ProductKey {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k, lda, ldb, ldc;
  DType factors, result;
  int alignment_a, alignment_b, alignment_c;

  auto operator<=>(const ProductKey&) const = default;

  std::string text() const {
    return concat("a product of ", m, " x ", n, " x ", k, " (", product_type_text(factors), " to ",
                  product_type_text(result), ", a", transpose_a ? " transposed" : "", ", b",
                  transpose_b ? " transposed" : "", ", leading dimensions ", lda, ", ", ldb, ", ", ldc, ")");
  }
};

inline constexpr int most_alignment = 16;

/// BackendError where the address is not one of an element of `bytes` bytes.
inline int address_alignment(const void* p, std::size_t bytes, const char* what) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  int alignment = most_alignment;
  while (address % static_cast<std::uintptr_t>(alignment) != 0) alignment /= 2;
  require<BackendError>(static_cast<std::size_t>(alignment) >= bytes, "[gemm] the address of ", what,
                        " is a multiple of ", alignment, " bytes; its elements of ", bytes, " bytes need more");
  return alignment;
}

template <class T, class Out>
ProductKey product_key(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                       std::int64_t lda, const T* b, std::int64_t ldb, Out* c, std::int64_t ldc) {
  return {transpose_a,
          transpose_b,
          m,
          n,
          k,
          lda,
          ldb,
          ldc,
          dtype_of<T>(),
          dtype_of<Out>(),
          address_alignment(a, sizeof(T), "a"),
          address_alignment(b, sizeof(T), "b"),
          address_alignment(c, sizeof(Out), "c")};
}

/// The same product as column-major libraries know it: C' = op(B)' op(A)'. `first` is B as it is stored, `second` A.
struct ColumnMajorProduct {
  struct Matrix {
    std::int64_t rows, columns, ld;
    /// Elements from its first to behind its last.
    std::int64_t extent() const { return rows == 0 || columns == 0 ? 0 : (columns - 1) * ld + rows; }
  };
  bool transpose_first, transpose_second;
  Matrix first, second, result;
};
inline ColumnMajorProduct column_major(const ProductKey& p) {
  return {p.transpose_b,
          p.transpose_a,
          {p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb},
          {p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda},
          {p.n, p.m, p.ldc}};
}

/// Products by a Library, which has
///   Program choose(const ProductKey&)   asks the library for an algorithm; never while a graph is captured
///   void run(const Program&, const void* alpha, const void* a, const void* b, const void* beta, void* c)
///   void clear(void* c, const ProductKey&)   C = 0
///   bool capturing()
/// One for all threads of a program.
template <class Library>
class Products {
 public:
  explicit Products(std::size_t most = 4096) : cache_(most) {}

  template <class T, class Out>
  void multiply(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                accumulate_t<T> alpha, const T* a, std::int64_t lda, const T* b, std::int64_t ldb, accumulate_t<T> beta,
                Out* c, std::int64_t ldc) {
    check_gemm(transpose_a, transpose_b, m, n, k, lda, ldb, ldc);
    if (m == 0 || n == 0 || is_dry()) return;
    const ProductKey key = product_key(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, c, ldc);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (k == 0) return multiply_nothing(key, static_cast<double>(beta), c);
    typename Library::Program* program = cache_.find(key);
    if (program == nullptr) {
      require<BackendError>(!library_.capturing(), "[cuda] ", key.text(),
                            " is captured that never ran; run the work once before it is captured");
      program = &cache_.add(key, library_.choose(key));
    }
    library_.run(*program, &alpha, a, b, &beta, c);
  }

  Library& library() { return library_; }
  const RecentCache<ProductKey, typename Library::Program>& cache() const { return cache_; }

 private:
  /// The libraries know no product of no terms.
  void multiply_nothing(const ProductKey& key, double beta, void* c) {
    require<BackendError>(beta == 0 || beta == 1, "[cuda] ", key.text(), " with beta ", beta,
                          "; a product of no terms takes 0 or 1");
    if (beta == 0) library_.clear(c, key);
  }

  std::mutex mutex_;
  Library library_;
  RecentCache<ProductKey, typename Library::Program> cache_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
