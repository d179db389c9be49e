// SPDX-License-Identifier: Apache-2.0
// Matrix products on the host: cblas or Eigen inside kdlib's thread pool, and an own kernel for few rows (generation).
#ifndef KDLIB_BACKEND_CPU_GEMM_INL_HPP
#define KDLIB_BACKEND_CPU_GEMM_INL_HPP

#include <sys/mman.h>

#include <vector>

#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/core/parallel.hpp"

#if defined(KDLIB_WITH_CBLAS)
#include <cblas.h>
// OpenBLAS's own calls; weak, so that another cblas links too.
extern "C" void openblas_set_num_threads(int) __attribute__((weak));
extern "C" char* openblas_get_config(void) __attribute__((weak));
#else
#include <Eigen/Core>
#endif

KDLIB_NAMESPACE_BEGIN
namespace detail {

#if defined(KDLIB_WITH_CBLAS)
/// kdlib's pool splits the work: each cblas call stays on its thread.
inline void use_one_blas_thread() {
  static const bool done = [] {
    if (&openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
    return true;
  }();
  (void)done;
}

/// What OpenBLAS maps for every thread that multiplies, in bytes of address space (its BUFFER_SIZE on x86 and a rest).
inline constexpr std::size_t openblas_buffer_bytes = std::size_t{136} << 20;

/// Tries once whether the buffers that OpenBLAS takes for each thread can be had, and lets it take them: where they
/// cannot, OpenBLAS itself would wait for them for ever. BackendError says how much is needed.
inline void take_blas_buffers() {
  if (&openblas_set_num_threads == nullptr) return;
  use_one_blas_thread();
  const int threads = thread_count();
  std::vector<void*> mapped;
  while (static_cast<int>(mapped.size()) < threads) {
    void* at = ::mmap(nullptr, openblas_buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) break;
    mapped.push_back(at);
  }
  for (void* at : mapped) ::munmap(at, openblas_buffer_bytes);
  require<BackendError>(static_cast<int>(mapped.size()) == threads, "[gemm] OpenBLAS takes ",
                        openblas_buffer_bytes >> 20, " MiB of address space for each of ", threads,
                        " threads; there is room for ", mapped.size(),
                        ": raise the limit of memory (ulimit -v), or use a smaller --threads");
  constexpr int n = 192;  // large enough for the way through the buffers
  const std::vector<float> x(static_cast<std::size_t>(n) * n, 1.0f);
  parallel_parts(threads, [&](int, int) {
    std::vector<float> y(x.size());
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1.0f, x.data(), n, x.data(), n, 0.0f, y.data(), n);
  });
}

template <class T>
void library_gemm(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                  std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  const CBLAS_TRANSPOSE opa = ta ? CblasTrans : CblasNoTrans, opb = tb ? CblasTrans : CblasNoTrans;
  const auto i = [](std::int64_t x) { return static_cast<int>(x); };
  if constexpr (std::is_same_v<T, float>)
    cblas_sgemm(CblasRowMajor, opa, opb, i(m), i(n), i(k), alpha, a, i(lda), b, i(ldb), beta, c, i(ldc));
  else cblas_dgemm(CblasRowMajor, opa, opb, i(m), i(n), i(k), alpha, a, i(lda), b, i(ldb), beta, c, i(ldc));
}
#else
inline void use_one_blas_thread() {}
inline void take_blas_buffers() {}  // Eigen works in memory that it takes and gives back

template <class A, class B, class C, class T>
void eigen_product(const A& a, const B& b, C& c, T alpha, T beta) {
  if (beta == T{0}) {
    c.noalias() = alpha * (a * b);
    return;
  }
  if (beta != T{1}) c *= beta;
  c.noalias() += alpha * (a * b);
}

template <class T>
void library_gemm(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                  std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Stride = Eigen::OuterStride<>;
  const Eigen::Map<const Matrix, 0, Stride> am(a, ta ? k : m, ta ? m : k, Stride(lda)),
      bm(b, tb ? n : k, tb ? k : n, Stride(ldb));
  Eigen::Map<Matrix, 0, Stride> cm(c, m, n, Stride(ldc));
  if (ta && tb) eigen_product(am.transpose(), bm.transpose(), cm, alpha, beta);
  else if (ta) eigen_product(am.transpose(), bm, cm, alpha, beta);
  else if (tb) eigen_product(am, bm.transpose(), cm, alpha, beta);
  else eigen_product(am, bm, cm, alpha, beta);
}
#endif

/// C = beta * C, for products without terms.
template <class T>
void scale_matrix(std::int64_t m, std::int64_t n, T beta, T* c, std::int64_t ldc) {
  for (std::int64_t r = 0; r < m; ++r)
    for (std::int64_t i = 0; i < n; ++i) c[r * ldc + i] = beta == T{0} ? T{0} : beta * c[r * ldc + i];
}

constexpr std::int64_t few_rows_limit = 32;           // rows up to which reading each weight once beats packing it
constexpr std::int64_t gemm_grain = 64;               // rows or columns below which a product is not split further
constexpr std::int64_t panel_grain = 48;              // a multiple of every tile's rows
constexpr std::int64_t gemm_parallel_work = 1 << 15;  // m n k below which one thread is faster

/// x as a panel that many rows of a weight will meet, in scratch of this thread; null where few_rows does the product.
template <class T>
const T* few_rows_panel(std::int64_t m, std::int64_t n, std::int64_t k, const T* x, std::int64_t ldx) {
  std::int64_t elements = 0;
  KDLIB_VECTOR_CALL(panel_elements<T>, m, k, elements);
  if (elements == 0 || n < 4 * m) return nullptr;
  thread_local std::vector<T> scratch;
  if (static_cast<std::size_t>(elements) > scratch.size()) scratch.resize(static_cast<std::size_t>(elements));
  KDLIB_VECTOR_CALL(fill_panel, m, k, x, ldx, scratch.data());
  return scratch.data();
}

/// C = alpha * A op(B) + beta * C for few rows of A; `panel` is A's panel or null.
template <class T>
void few_rows_gemm(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a, std::int64_t lda,
                   const T* panel, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  if (panel != nullptr) KDLIB_VECTOR_CALL(multiply_panel, m, n, k, alpha, panel, b, ldb, beta, c, ldc);
  else KDLIB_VECTOR_CALL(few_rows, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

constexpr std::int64_t invariant_rows = 16;  // rows of A that batch_invariant() multiplies together

/// C = alpha * A B^T + beta * C where a row's bits depend on that row alone: rows go in panels of one height, the last
/// filled up with zeros. A panel's sums run over the terms in order, for each row in a lane of its own; without panels
/// (portable code) rows and columns go one at a time.
template <class T>
void invariant_rows_gemm(std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a, std::int64_t lda,
                         const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  std::int64_t elements = 0;
  KDLIB_VECTOR_CALL(panel_elements<T>, invariant_rows, k, elements);
  if (elements == 0) {
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t i = 0; i < n; ++i)  // a column's bits must not depend on where a thread's part begins
        KDLIB_VECTOR_CALL(few_rows, 1, 1, k, alpha, a + r * lda, lda, b + i * ldb, ldb, beta, c + r * ldc + i, ldc);
    return;
  }
  thread_local std::vector<T> scratch;
  const auto needed = static_cast<std::size_t>(elements + invariant_rows * (k + n));
  if (scratch.size() < needed) scratch.resize(needed);
  T *panel = scratch.data(), *rows = panel + elements, *sums = rows + invariant_rows * k;
  for (std::int64_t first = 0; first < m; first += invariant_rows) {
    const std::int64_t count = std::min(invariant_rows, m - first);
    for (std::int64_t r = 0; r < count; ++r) std::copy_n(a + (first + r) * lda, k, rows + r * k);
    std::fill(rows + count * k, sums, T{0});
    KDLIB_VECTOR_CALL(fill_panel, invariant_rows, k, rows, k, panel);
    KDLIB_VECTOR_CALL(multiply_panel, invariant_rows, n, k, alpha, static_cast<const T*>(panel), b, ldb, T{0}, sums, n);
    for (std::int64_t r = 0; r < count; ++r)
      for (std::int64_t i = 0; i < n; ++i) {
        T& to = c[(first + r) * ldc + i];
        to = beta == T{0} ? sums[r * n + i] : sums[r * n + i] + beta * to;
      }
  }
}

/// The same for either form of B: [k, n] is written as [n, k] first.
template <class T>
void invariant_gemm(bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                    std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  if (transpose_b) return invariant_rows_gemm(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  thread_local std::vector<T> turned;
  if (turned.size() < static_cast<std::size_t>(n * k)) turned.resize(static_cast<std::size_t>(n * k));
  for (std::int64_t p = 0; p < k; ++p)
    for (std::int64_t i = 0; i < n; ++i) turned[static_cast<std::size_t>(i * k + p)] = b[p * ldb + i];
  const T* rows = turned.data();
  invariant_rows_gemm(m, n, k, alpha, a, lda, rows, k, beta, c, ldc);
}

template <class T>
void CpuGemm<T>::gemm_serial(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                             T alpha, const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c,
                             std::int64_t ldc) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) return scale_matrix(m, n, beta, c, ldc);
  if (!transpose_a && batch_invariant())
    return invariant_gemm(transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (!transpose_a && transpose_b && m <= few_rows_limit) {
    few_rows_gemm(m, n, k, alpha, a, lda, few_rows_panel(m, n, k, a, lda), b, ldb, beta, c, ldc);
    return;
  }
  use_one_blas_thread();
  library_gemm<T>(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

template <class T>
void CpuGemm<T>::gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                      const T* a, std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) {
  for (const std::int64_t x : {m, n, k, lda, ldb, ldc})
    require<ShapeError>(x >= 0 && x <= std::numeric_limits<int>::max(), "[gemm] ", m, " x ", n, " x ", k,
                        " has an extent outside of 0 to 2^31 - 1");
  if (m * n <= 0) return;
  if (m * n * (k + 1) < gemm_parallel_work)
    return gemm_serial(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (!transpose_a && transpose_b && m <= few_rows_limit && !batch_invariant()) {
    const T* panel = few_rows_panel(m, n, k, a, lda);
    parallel_for(n, panel_grain, [&](std::int64_t begin, std::int64_t end) {
      few_rows_gemm(m, end - begin, k, alpha, a, lda, panel, b + begin * ldb, ldb, beta, c + begin, ldc);
    });
    return;
  }
  const bool split_columns = n >= m;
  parallel_for(split_columns ? n : m, gemm_grain, [&](std::int64_t begin, std::int64_t end) {
    if (split_columns)
      gemm_serial(transpose_a, transpose_b, m, end - begin, k, alpha, a, lda, b + (transpose_b ? begin * ldb : begin),
                  ldb, beta, c + begin, ldc);
    else
      gemm_serial(transpose_a, transpose_b, end - begin, n, k, alpha, a + (transpose_a ? begin : begin * lda), lda, b,
                  ldb, beta, c + begin * ldc, ldc);
  });
}

}  // namespace detail

inline const char* cpu_blas_name() {
#if defined(KDLIB_WITH_CBLAS)
  static const std::string name = [] {
    const char* config = &openblas_get_config != nullptr ? openblas_get_config() : nullptr;
    return config != nullptr ? concat("cblas (", config, ")") : std::string("cblas");
  }();
  return name.c_str();
#else
#define KDLIB_TEXT2(x) #x
#define KDLIB_TEXT(x) KDLIB_TEXT2(x)
  return "Eigen " KDLIB_TEXT(EIGEN_WORLD_VERSION) "." KDLIB_TEXT(EIGEN_MAJOR_VERSION) "." KDLIB_TEXT(
      EIGEN_MINOR_VERSION);
#undef KDLIB_TEXT
#undef KDLIB_TEXT2
#endif
}

KDLIB_NAMESPACE_END

#endif
