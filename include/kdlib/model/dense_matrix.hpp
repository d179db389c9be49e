// SPDX-License-Identifier: Apache-2.0
// Small dense linear algebra in double, for what is solved once when a model is made: products, singular values,
// Cholesky factors, assignments. Plain loops on the host: sizes of tests and of single layers of small models.
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

/// a b. ShapeError where the inner sizes differ.
DenseMatrix multiply(const DenseMatrix& a, const DenseMatrix& b);
/// a^T b.
DenseMatrix multiply_transposed(const DenseMatrix& a, const DenseMatrix& b);
/// a b^T.
DenseMatrix multiply_by_transposed(const DenseMatrix& a, const DenseMatrix& b);
/// a += factor b.
void add_scaled(DenseMatrix& a, double factor, const DenseMatrix& b);
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

/// The lower factor S with S S^T = m, or nothing where a pivot is not positive. Only the lower part of m is read.
std::optional<DenseMatrix> cholesky(const DenseMatrix& m);
/// x of s x = b for a lower triangular s.
DenseMatrix solve_lower(const DenseMatrix& s, DenseMatrix b);
/// x of s^T x = b for a lower triangular s.
DenseMatrix solve_lower_transposed(const DenseMatrix& s, DenseMatrix b);

/// For each row the column of a one-to-one assignment whose sum of gain(row, column) is largest; n x n, O(n^3).
/// Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems"
/// (Computing 38, 1987), the augmenting part.
std::vector<std::int64_t> best_assignment(const DenseMatrix& gain);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/model/dense_matrix_inl.hpp"
#endif

#endif
