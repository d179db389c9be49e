// SPDX-License-Identifier: Apache-2.0
// Dense linear algebra in double on the host, for problems that are solved once when a model is made: products,
// singular values, leading directions, Cholesky factors, assignments. Products are plain loops unless a backend's gemm
// is given.
#ifndef KDLIB_MODEL_DENSE_MATRIX_HPP
#define KDLIB_MODEL_DENSE_MATRIX_HPP

#include <cstdint>
#include <optional>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// A matrix [rows, columns], row-major.
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

/// Computes c [m, n] = alpha op(a) op(b) + beta c, row-major with leading dimensions; op transposes if its flag is set.
/// The signature is that of a host backend: &Kernels<Cpu, double>::gemm uses the matrix library and kdlib's threads.
using DenseGemm = void (*)(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                           double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
                           double beta, double* c, std::int64_t ldc);
/// The same by loops, for small matrices and programs without a backend.
void plain_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
                const double* a, std::int64_t lda, const double* b, std::int64_t ldb, double beta, double* c,
                std::int64_t ldc);

/// Returns a b. Throws ShapeError if the inner sizes differ.
DenseMatrix multiply(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm = plain_gemm);
/// Returns a^T b.
DenseMatrix multiply_transposed(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm = plain_gemm);
/// Returns a b^T.
DenseMatrix multiply_by_transposed(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm = plain_gemm);
/// Returns a a^T, which is exactly symmetric.
DenseMatrix gram(const DenseMatrix& a, DenseGemm gemm = plain_gemm);
/// Adds alpha a b to c, or alpha a b^T if `by_transposed` is set.
void add_product(DenseMatrix& c, double alpha, const DenseMatrix& a, const DenseMatrix& b, bool by_transposed,
                 DenseGemm gemm = plain_gemm);
/// Adds factor b to a.
void add_scaled(DenseMatrix& a, double factor, const DenseMatrix& b);
/// Returns the sum of the diagonal.
double trace_of(const DenseMatrix& m);
/// Returns the sum over all elements of a * b.
double inner_product(const DenseMatrix& a, const DenseMatrix& b);

/// a = u diag(s) v^T with k = min(rows, columns): u [rows, k], v [columns, k], s [k] falling and >= 0. A column of u
/// whose singular value is 0 is 0.
struct ThinSvd {
  DenseMatrix u, v;
  std::vector<double> s;
};
/// Computes the decomposition by one-sided Jacobi rotations (Hestenes 1958; Demmel and Veselic 1992). Throws Error if
/// 60 sweeps do not converge.
ThinSvd thin_svd(const DenseMatrix& a);

/// The largest eigenvalues, falling, of a symmetric matrix that has no negative ones, and their vectors: orthonormal
/// rows of `vectors` [count, n]. A row is 0 if the matrix has fewer such vectors.
struct LeadingDirections {
  DenseMatrix vectors;
  std::vector<double> values;
};
/// Finds the leading directions by subspace iteration from the rows of `start` [rows, n], or from noise if `start` is
/// empty. `start` may have more than `count` rows; all of them stay in the result. The search ends after `steps` steps,
/// or when a step changes the part of the trace that is left out by less than a ten-thousandth of that part. Then the
/// subspace is nearly the best one, but single vectors whose eigenvalues lie close together may not have settled.
LeadingDirections leading_directions(const DenseMatrix& symmetric, std::int64_t count, const DenseMatrix& start,
                                     DenseGemm gemm = plain_gemm, int steps = 16);
/// Estimates the largest eigenvalue of such a matrix, to be used as a scale: the result is at most the true value, and
/// seldom lower by more than a fifth.
double largest_eigenvalue(const DenseMatrix& symmetric, DenseGemm gemm = plain_gemm);

/// Returns the lower triangular S with S S^T = m, or nothing if a pivot is not positive. Only the lower part of m is
/// read.
std::optional<DenseMatrix> cholesky(const DenseMatrix& m, DenseGemm gemm = plain_gemm);
/// Solves s x = b for a lower triangular s.
DenseMatrix solve_lower(const DenseMatrix& s, DenseMatrix b, DenseGemm gemm = plain_gemm);
/// Solves s^T x = b for a lower triangular s.
DenseMatrix solve_lower_transposed(const DenseMatrix& s, DenseMatrix b, DenseGemm gemm = plain_gemm);

/// Returns for each row the column of the one-to-one assignment with the largest sum of gain(row, column). `gain` is n
/// x n; the cost is O(n^3). Source: the augmenting part of Jonker and Volgenant, "A shortest augmenting path algorithm
/// for dense and sparse linear assignment problems" (Computing 38, 1987).
std::vector<std::int64_t> best_assignment(const DenseMatrix& gain);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/model/dense_matrix_inl.hpp"
#include "kdlib/model/leading_directions_inl.hpp"
#endif

#endif
