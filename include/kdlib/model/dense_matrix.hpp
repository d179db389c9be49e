// SPDX-License-Identifier: Apache-2.0
// Dense linear algebra in double on the host, for what is solved once when a model is made: products, singular values,
// leading directions, Cholesky factors, assignments. Products are plain loops unless a backend's gemm is given.
#ifndef KDLIB_MODEL_DENSE_MATRIX_HPP
#define KDLIB_MODEL_DENSE_MATRIX_HPP

#include <cstdint>
#include <optional>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// [rows, columns], row-major.
struct DenseMatrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<double> values{};

  DenseMatrix() = default;
  DenseMatrix(std::int64_t rows_, std::int64_t columns_)
      : rows(rows_), columns(columns_), values(static_cast<std::size_t>(rows_ * columns_), 0.0) {}
  double& operator()(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return values[static_cast<std::size_t>(i * columns + j)]; }
  /// Sum of squares of all elements.
  double squares() const;
  DenseMatrix transposed() const;
  static DenseMatrix identity(std::int64_t size);
};

/// c [m, n] = alpha op(a) op(b) + beta c, row-major with leading dimensions; op transposes where its flag is set. As a
/// backend's on the host: &Kernels<Cpu, double>::gemm, which uses the matrix library and kdlib's threads.
using DenseGemm = void (*)(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                           double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
                           double beta, double* c, std::int64_t ldc);
/// The same by loops, for small matrices and where no backend is at hand.
void plain_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
                const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c,
                std::int64_t ldc);

/// a b. ShapeError where the inner sizes differ.
DenseMatrix multiply(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm = plain_gemm);
/// a^T b.
DenseMatrix multiply_transposed(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm = plain_gemm);
/// a b^T.
DenseMatrix multiply_by_transposed(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm = plain_gemm);
/// a a^T, exactly symmetric.
DenseMatrix gram(const DenseMatrix& a, DenseGemm gemm = plain_gemm);
/// c += alpha a b, or with `by_transposed` c += alpha a b^T.
void add_product(DenseMatrix& c, double alpha, const DenseMatrix& a, const DenseMatrix& b, bool by_transposed,
                 DenseGemm gemm = plain_gemm);
/// a += factor b.
void add_scaled(DenseMatrix& a, double factor, const DenseMatrix& b);
/// Sum of the diagonal.
double trace_of(const DenseMatrix& m);
/// Sum over all elements of a * b.
double inner_product(const DenseMatrix& a, const DenseMatrix& b);

/// a = u diag(s) v^T with k = min(rows, columns): u [rows, k], v [columns, k], s falling, >= 0. Columns of u whose
/// singular value is 0 are 0.
struct ThinSvd {
  DenseMatrix u, v;
  std::vector<double> s;
};
/// By one-sided Jacobi rotations (Hestenes 1958; Demmel and Veselic 1992). Error where 60 sweeps do not converge.
ThinSvd thin_svd(const DenseMatrix& a);

/// The largest eigenvalues of a symmetric matrix without negative ones, falling, and their vectors, orthonormal rows of
/// [count, n] (0 where the matrix has no more of them).
struct LeadingDirections {
  DenseMatrix vectors;
  std::vector<double> values;
};
/// By subspace iteration from `start`, rows of which there may be more than `count` (they all stay in the answer), or
/// from noise where it is empty. It ends where a step changes the part of the trace that is left out by less than a
/// ten-thousandth of it, or after `steps`: the subspace is then nearly the best one, single vectors of values that lie
/// close together need not have settled.
LeadingDirections leading_directions(const DenseMatrix& symmetric, std::int64_t count, const DenseMatrix& start,
                                     DenseGemm gemm = plain_gemm, int steps = 16);
/// About the largest eigenvalue of such a matrix, for a scale: at most that, and seldom below by more than a fifth.
double largest_eigenvalue(const DenseMatrix& symmetric, DenseGemm gemm = plain_gemm);

/// The lower factor S with S S^T = m, or nothing where a pivot is not positive. Only the lower part of m is read.
std::optional<DenseMatrix> cholesky(const DenseMatrix& m, DenseGemm gemm = plain_gemm);
/// x of s x = b for a lower triangular s.
DenseMatrix solve_lower(const DenseMatrix& s, DenseMatrix b, DenseGemm gemm = plain_gemm);
/// x of s^T x = b for a lower triangular s.
DenseMatrix solve_lower_transposed(const DenseMatrix& s, DenseMatrix b, DenseGemm gemm = plain_gemm);

/// For each row the column of a one-to-one assignment whose sum of gain(row, column) is largest; n x n, O(n^3).
/// Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems"
/// (Computing 38, 1987), the augmenting part.
std::vector<std::int64_t> best_assignment(const DenseMatrix& gain);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/model/dense_matrix_inl.hpp"
#include "kdlib/model/leading_directions_inl.hpp"
#endif

#endif
