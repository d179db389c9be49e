// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_experts.hpp: half-steps that search the leading directions alone, for [n, d] with n <= d. Nearly
// everything is done on [n, n] products: W W^T of each expert is made once, W C^T and C C^T once a round. No singular
// values of N or T are needed, since with N = A S B^T
//   B S^+ A^T = N^T (N N^T + l)^-1  for S^+ = s / (s^2 + l),  l = soft * (largest s)^2.
#ifndef KDLIB_MODEL_COMPRESS_LEADING_INL_HPP
#define KDLIB_MODEL_COMPRESS_LEADING_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/model/compress_experts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// N N^T + l with its Cholesky factor.
struct SoftProducts {
  DenseMatrix factor;
  double added = 0, least = 0;  // l, and about the smallest eigenvalue of N N^T + l, at least that

  /// (N N^T + l)^-1 b.
  DenseMatrix solve(const DenseMatrix& b, DenseGemm gemm) const {
    return solve_lower_transposed(factor, solve_lower(factor, b, gemm), gemm);
  }
};

/// l is at least 1e-14 of the largest eigenvalue, and ten times as much while no factor exists.
KDLIB_FUNC SoftProducts soften(DenseMatrix products, double soft, DenseGemm gemm) {
  const double largest = largest_eigenvalue(products, gemm);
  if (!(largest > 0)) return {};
  SoftProducts out;
  for (double share = std::max(soft, 1e-14); share < 1; share *= 10) {
    for (std::int64_t i = 0; i < products.rows; ++i) products(i, i) += share * largest - out.added;
    out.added = share * largest;
    if (auto s = cholesky(products, gemm)) {
      out.factor = std::move(*s);
      break;
    }
  }
  require<Error>(!out.factor.values.empty(), "[compress_experts] products of a core are no finite numbers");
  out.least = out.factor(0, 0) * out.factor(0, 0);
  for (std::int64_t i = 1; i < products.rows; ++i) out.least = std::min(out.least, out.factor(i, i) * out.factor(i, i));
  return out;
}

/// Rows of `vectors` as columns, each times factor(eigenvalue).
template <class F>
DenseMatrix scaled_columns(const LeadingDirections& found, std::int64_t rank, F&& factor) {
  DenseMatrix out(found.vectors.columns, rank);
  for (std::int64_t j = 0; j < rank; ++j) {
    const double f = factor(std::max(0.0, found.values[static_cast<std::size_t>(j)]));
    for (std::int64_t i = 0; i < out.rows; ++i) out(i, j) = f * found.vectors(j, i);
  }
  return out;
}

/// Eigenvalues are squares of singular values s: columns times s^1/2, and times s^-1/2. Below `rounding` they are 0.
KDLIB_FUNC std::pair<DenseMatrix, DenseMatrix> halves(const LeadingDirections& found, std::int64_t rank) {
  const double rounding = 1e-28 * std::max(0.0, found.values.empty() ? 0.0 : found.values[0]);
  return {scaled_columns(found, rank, [=](double v) { return v > rounding ? std::pow(v, 0.25) : 0; }),
          scaled_columns(found, rank, [=](double v) { return v > rounding ? std::pow(v, -0.25) : 0; })};
}

KDLIB_FUNC LeadingDirections ExpertCompressor::directions(const DenseMatrix& products, DenseMatrix& start) const {
  const std::int64_t kept = directions_kept(settings_.rank, products.rows);
  if (start.values.empty()) start = DenseMatrix(kept, products.rows);
  LeadingDirections found = leading_directions(products, settings_.rank, start, gemm());
  start = found.vectors;
  return found;
}

/// Columns of u times `factors`.
KDLIB_FUNC void scale_columns(DenseMatrix& m, const std::vector<double>& factors, bool divide) {
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.columns; ++j) {
      const double f = factors[static_cast<std::size_t>(j)];
      m(i, j) = divide ? m(i, j) / f : m(i, j) * f;
    }
}

/// m -= a^T b.
KDLIB_FUNC void subtract_product_transposed(DenseMatrix& m, const DenseMatrix& a, const DenseMatrix& b,
                                            DenseGemm gemm) {
  gemm(true, false, m.rows, m.columns, a.rows, -1, a.values.data(), a.columns, b.values.data(), b.columns, 1,
       m.values.data(), m.columns);
}

KDLIB_FUNC InputProducts ExpertCompressor::input_products(std::size_t e) const {
  const ExpertPart& p = map_.experts[e];
  return {multiply(map_.core, p.input_u, gemm()), multiply(map_.core, p.input_v, gemm()),
          multiply(experts_[e], p.input_v, gemm()), multiply_transposed(p.input_v, p.input_v, gemm())};
}

/// N = (1 + Uo Vo^T) C = L C, X = W - N: X X^T ~ P D^2 P^T, Ui = N^T z with z = (N N^T + l)^-1 P D^1/2, Vi = X^T y with
/// y = P D^-1/2. Where N lacks directions, X is what it has of them: Q X, y = Q P D^-1/2 with
/// Q = N N^T (N N^T + l)^-1. `across` is W C^T.
KDLIB_FUNC InputProducts ExpertCompressor::leading_right(std::size_t e, const DenseMatrix& across) {
  ExpertPart& p = map_.experts[e];
  const DenseMatrix half = wrapped(p.output_u, p.output_v, core_products_, gemm());
  const DenseMatrix n_n = wrapped_behind(half, p.output_v, p.output_u, gemm());
  const SoftProducts soft = soften(n_n, settings_.soft, gemm());
  if (soft.factor.values.empty()) return input_products(e);  // no core, nothing to wrap
  const DenseMatrix w_n = wrapped_behind(across, p.output_v, p.output_u, gemm());
  DenseMatrix products = expert_products_[e];
  add_scaled(products, 1, n_n);
  add_scaled(products, -1, w_n);
  add_transposed(products, -1, w_n);
  const double squares = trace_of(products);
  const bool lacks = soft.least < 1e3 * soft.added;
  DenseMatrix reached;
  if (lacks) {
    reached = soft.solve(DenseMatrix::identity(n_n.rows), gemm());
    for (double& v : reached.values) v *= -soft.added;
    for (std::int64_t i = 0; i < n_n.rows; ++i) reached(i, i) += 1;
    products = multiply(multiply(reached, products, gemm()), reached, gemm());
  }
  auto [up, y] = halves(directions(products, start_right_[e]), settings_.rank);
  if (lacks) y = multiply(reached, y, gemm());
  const DenseMatrix z = wrapped(p.output_v, p.output_u, soft.solve(up, gemm()), gemm()),
                    below = wrapped(p.output_v, p.output_u, y, gemm());  // L^T z, L^T y
  ExpertPart now = p;
  now.input_u = multiply_transposed(map_.core, z, gemm());
  now.input_v = multiply_transposed(experts_[e], y, gemm());
  subtract_product_transposed(now.input_v, map_.core, below, gemm());
  InputProducts found{multiply(core_products_, z, gemm()),
                      multiply_transposed(across, y, gemm()),
                      multiply(expert_products_[e], y, gemm()),
                      {}};
  add_product(found.core_v, -1, core_products_, below, false, gemm());
  add_product(found.expert_v, -1, across, below, false, gemm());
  found.v_v = multiply_transposed(now.input_v, now.input_v, gemm());
  // |X - N Ui Vi^T|^2
  const DenseMatrix n_u = wrapped(p.output_u, p.output_v, found.core_u, gemm());
  DenseMatrix x_v = found.expert_v;
  add_scaled(x_v, -1, wrapped(p.output_u, p.output_v, found.core_v, gemm()));
  const double error = weights_[e] * std::max(0.0, squares - 2 * inner_product(n_u, x_v) +
                                                       inner_product(multiply_transposed(n_u, n_u, gemm()), found.v_v));
  if (!(error <= errors_[e])) return input_products(e);
  errors_[e] = error;
  p = std::move(now);
  const std::vector<double> factors = balance_columns(p.input_u, p.input_v);
  scale_columns(found.core_u, factors, false);
  scale_columns(found.core_v, factors, true);
  scale_columns(found.expert_v, factors, true);
  found.v_v = multiply_transposed(p.input_v, p.input_v, gemm());
  return found;
}

/// T = C (1 + Ui Vi^T) = C + B Vi^T, X = W - T, F = X T^T: F (T T^T + l)^-1 F^T ~ P D^2 P^T, Uo = P D^1/2,
/// Vo = (T T^T + l)^-1 F^T P D^-1/2.
KDLIB_FUNC void ExpertCompressor::leading_left(std::size_t e, const DenseMatrix& across, const InputProducts& in) {
  ExpertPart& p = map_.experts[e];
  // T T^T = G + M B^T + B M^T with M = C Vi + B (Vi^T Vi) / 2.
  DenseMatrix m = in.core_v, t_t = core_products_;
  add_product(m, 0.5, in.core_u, in.v_v, false, gemm());
  add_product(t_t, 1, side_by_side(m, in.core_u), side_by_side(in.core_u, m), true, gemm());
  const SoftProducts soft = soften(t_t, settings_.soft, gemm());
  if (soft.factor.values.empty()) return;
  DenseMatrix f = across;
  add_product(f, 1, in.expert_v, in.core_u, true, gemm());  // W T^T
  const double squares = trace_of(expert_products_[e]) - 2 * trace_of(f) + trace_of(t_t);
  add_scaled(f, -1, t_t);
  const DenseMatrix turned = f.transposed(), reached = solve_lower(soft.factor, turned, gemm());
  const auto [up, y] = halves(directions(gram(reached.transposed(), gemm()), start_left_[e]), settings_.rank);
  const ExpertPart before = p;
  p.output_u = up;
  p.output_v = soft.solve(multiply(turned, y, gemm()), gemm());
  // |X - Uo Vo^T T|^2
  const double along = inner_product(p.output_u, multiply(f, p.output_v, gemm())),
               size = inner_product(multiply_transposed(p.output_u, p.output_u, gemm()),
                                    multiply_transposed(p.output_v, multiply(t_t, p.output_v, gemm()), gemm()));
  keep(e, before, weights_[e] * std::max(0.0, squares - 2 * along + size));
}

/// Both half-steps, expert by expert.
KDLIB_FUNC void ExpertCompressor::leading_fit() {
  core_products_ = gram(map_.core, gemm());
  std::vector<double> between(errors_.size());
  each_expert([&](std::size_t e) {
    const DenseMatrix across = multiply_by_transposed(experts_[e], map_.core, gemm());
    const InputProducts in = leading_right(e, across);
    between[e] = errors_[e];
    leading_left(e, across, in);
  });
  const std::vector<double> after = errors_;
  errors_ = between;
  told(turned_ ? "left" : "right");
  errors_ = after;
  told(turned_ ? "right" : "left");
}

/// A B^T is nearly the best approximation of X = W - C of that rank: X X^T ~ P D^2 P^T, A = P D^1/2, B = X^T P D^-1/2.
KDLIB_FUNC void ExpertCompressor::leading_residual(std::size_t e) {
  ExpertPart& p = map_.experts[e];
  const ExpertPart before = p;
  DenseMatrix rest = experts_[e];
  add_scaled(rest, -1, map_.core);
  const auto [up, y] = halves(directions(gram(rest, gemm()), start_right_[e]), settings_.rank);
  p.a = up;
  p.b = multiply_transposed(rest, y, gemm());
  add_product(rest, -1, p.a, p.b, true, gemm());
  keep(e, before, weights_[e] * rest.squares());
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
