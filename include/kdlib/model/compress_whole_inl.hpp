// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_experts.hpp: half-steps by whole singular-value decompositions, for small matrices.
#ifndef KDLIB_MODEL_COMPRESS_WHOLE_INL_HPP
#define KDLIB_MODEL_COMPRESS_WHOLE_INL_HPP

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "kdlib/model/compress_experts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The first `rank` columns of `m` scaled by factor(i).
template <class F>
DenseMatrix leading_columns(const DenseMatrix& m, std::int64_t rank, F&& factor) {
  DenseMatrix out(m.rows, rank);
  for (std::int64_t j = 0; j < std::min(rank, m.columns); ++j) {
    const double f = factor(static_cast<std::size_t>(j));
    for (std::int64_t i = 0; i < m.rows; ++i) out(i, j) = f * m(i, j);
  }
  return out;
}

/// U S^1/2 and V S^1/2 of the first `rank` singular values.
KDLIB_FUNC std::pair<DenseMatrix, DenseMatrix> root_columns(const ThinSvd& svd, std::int64_t rank) {
  const auto root = [&](std::size_t i) { return std::sqrt(svd.s[i]); };
  return {leading_columns(svd.u, rank, root), leading_columns(svd.v, rank, root)};
}

/// Row i times s / (s^2 + soft largest^2) of the i-th singular value.
KDLIB_FUNC void ExpertCompressor::divide_softly(DenseMatrix& m, const ThinSvd& svd) const {
  for (std::int64_t i = 0; i < m.rows; ++i) {
    const double s = svd.s[static_cast<std::size_t>(i)], divisor = s * s + settings_.soft * svd.s[0] * svd.s[0],
                 inverse = divisor > 0 ? s / divisor : 0;
    for (std::int64_t j = 0; j < m.columns; ++j) m(i, j) *= inverse;
  }
}

/// N = (1 + Uo Vo^T) C = A S B^T; A^T (W - N) ~ P D Q^T; Ui = B S^+ P D^1/2, Vi = Q D^1/2.
KDLIB_FUNC void ExpertCompressor::whole_right(std::size_t e) {
  ExpertPart& p = map_.experts[e];
  const ExpertPart before = p;
  const DenseMatrix n = wrapped(p.output_u, p.output_v, map_.core);
  const ThinSvd of_n = thin_svd(n);
  DenseMatrix rest = experts_[e];
  add_scaled(rest, -1, n);
  auto [left, right] = root_columns(thin_svd(multiply_transposed(of_n.u, rest)), settings_.rank);
  divide_softly(left, of_n);
  p.input_u = multiply(of_n.v, left);
  p.input_v = std::move(right);
  keep(e, before, error_of(e));
}

/// T = C (1 + Ui Vi^T) = A S B^T; (W - T) B ~ P D Q^T; Uo = P D^1/2, Vo = A S^+ Q D^1/2.
KDLIB_FUNC void ExpertCompressor::whole_left(std::size_t e) {
  ExpertPart& p = map_.experts[e];
  const ExpertPart before = p;
  const DenseMatrix t = wrapped_behind(map_.core, p.input_u, p.input_v);
  const ThinSvd of_t = thin_svd(t);
  DenseMatrix rest = experts_[e];
  add_scaled(rest, -1, t);
  auto [left, right] = root_columns(thin_svd(multiply(rest, of_t.v)), settings_.rank);
  divide_softly(right, of_t);
  p.output_u = std::move(left);
  p.output_v = multiply(of_t.u, right);
  keep(e, before, error_of(e));
}

/// A B^T is the best approximation of W - C of that rank.
KDLIB_FUNC void ExpertCompressor::whole_residual(std::size_t e) {
  const ExpertPart before = map_.experts[e];
  DenseMatrix rest = experts_[e];
  add_scaled(rest, -1, map_.core);
  std::tie(map_.experts[e].a, map_.experts[e].b) = root_columns(thin_svd(rest), settings_.rank);
  keep(e, before, error_of(e));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
