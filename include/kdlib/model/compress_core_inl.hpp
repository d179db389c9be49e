// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_experts.hpp: the core that is best for given factors.
#ifndef KDLIB_MODEL_COMPRESS_CORE_INL_HPP
#define KDLIB_MODEL_COMPRESS_CORE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/model/compress_experts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// [left right] from column `at` on.
KDLIB_FUNC void place_columns(DenseMatrix& out, std::int64_t at, const DenseMatrix& left, const DenseMatrix& right) {
  for (std::int64_t i = 0; i < out.rows; ++i) {
    double* row = out.values.data() + i * out.columns + at;
    std::copy_n(left.values.data() + i * left.columns, left.columns, row);
    std::copy_n(right.values.data() + i * right.columns, right.columns, row + left.columns);
  }
}

/// [left right], of equal rows.
KDLIB_FUNC DenseMatrix side_by_side(const DenseMatrix& left, const DenseMatrix& right) {
  DenseMatrix out(left.rows, left.columns + right.columns);
  place_columns(out, 0, left, right);
  return out;
}

/// m += factor other^T.
KDLIB_FUNC void add_transposed(DenseMatrix& m, double factor, const DenseMatrix& other) {
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.columns; ++j) m(i, j) += factor * other(j, i);
}

/// u + v (u^T u) / 2: with it (1 + v u^T)(1 + u v^T) = 1 + [. v][v .]^T, the dot standing for it.
KDLIB_FUNC DenseMatrix symmetric_half(const DenseMatrix& u, const DenseMatrix& v, DenseGemm gemm) {
  DenseMatrix out = u;
  add_product(out, 0.5, v, multiply_transposed(u, u, gemm), false, gemm);
  return out;
}

constexpr std::size_t experts_together = 4;  // whose narrow factors make one product: the core is read once for them

/// Sums of the size of `shape` over experts, one a thread, and their sum in the order of threads; add(first, end, sum)
/// is given a few experts at a time.
KDLIB_FUNC DenseMatrix ExpertCompressor::sum_over_experts(
    const DenseMatrix& shape, const std::function<void(std::size_t, std::size_t, DenseMatrix&)>& add) const {
  const auto experts = static_cast<std::int64_t>(experts_.size());
  std::vector<DenseMatrix> sums(static_cast<std::size_t>(thread_count()));
  parallel_parts(static_cast<int>(std::min<std::int64_t>(experts, thread_count())), [&](int part, int parts) {
    DenseMatrix& sum = sums[static_cast<std::size_t>(part)];
    sum = DenseMatrix(shape.rows, shape.columns);
    const auto end = static_cast<std::size_t>(experts * (part + 1) / parts);
    for (auto e = static_cast<std::size_t>(experts * part / parts); e < end; e += experts_together) {
      check_stop();
      add(e, std::min(e + experts_together, end), sum);
    }
  });
  for (std::size_t i = 1; i < sums.size() && !sums[i].values.empty(); ++i) add_scaled(sums[0], 1, sums[i]);
  return std::move(sums[0]);
}

/// sum f (L^T L - 1) and sum f (R R^T - 1).
KDLIB_FUNC void ExpertCompressor::find_means() {
  const std::int64_t rows = map_.core.rows, columns = map_.core.columns;
  const auto mean = [&](std::int64_t size, DenseMatrix ExpertPart::*u, DenseMatrix ExpertPart::*v) {
    DenseMatrix half = sum_over_experts(DenseMatrix(size, size), [&](std::size_t e, std::size_t end, DenseMatrix& sum) {
      for (; e < end; ++e) {
        const ExpertPart& p = map_.experts[e];
        add_product(sum, weights_[e], symmetric_half(p.*u, p.*v, gemm()), p.*v, true, gemm());
      }
    });
    DenseMatrix whole = half;
    add_transposed(whole, 1, half);
    return whole;
  };
  mean_left_ = mean(rows, &ExpertPart::output_u, &ExpertPart::output_v);
  mean_right_ = mean(columns, &ExpertPart::input_v, &ExpertPart::input_u);
}

/// Cholesky factors of the means of L^T L and R R^T: what they stand for is near the whole of normal_product(), and
/// inverting it steers the conjugate gradients.
KDLIB_FUNC std::pair<DenseMatrix, DenseMatrix> ExpertCompressor::mean_factors() const {
  const double total = total_weight();
  const auto factor = [&](DenseMatrix m) {
    for (double& v : m.values) v /= total;
    for (std::int64_t i = 0; i < m.rows; ++i) m(i, i) += 1;
    for (double more = 0; more < 1; more = std::max(10 * more, 1e-12)) {
      DenseMatrix tried = m;
      for (std::int64_t i = 0; i < m.rows; ++i) tried(i, i) += more;
      if (auto s = cholesky(tried, gemm())) return *s;
    }
    return DenseMatrix::identity(m.rows);
  };
  return {factor(mean_left_), factor(mean_right_)};
}

/// sum_e f_e L^T L C R R^T. With L^T L = 1 + A and R R^T = 1 + B it is C sum f + (sum f A) C + C (sum f B) and
/// sum f A C B, whose products are of twice the rank.
KDLIB_FUNC DenseMatrix ExpertCompressor::normal_product(const DenseMatrix& core) const {
  const std::int64_t width = 2 * settings_.rank, rows = core.rows, columns = core.columns;
  DenseMatrix out = sum_over_experts(core, [&](std::size_t first, std::size_t end, DenseMatrix& sum) {
    const std::int64_t all = static_cast<std::int64_t>(end - first) * width;
    DenseMatrix left(rows, all), right(columns, all);
    std::vector<DenseMatrix> halves(2 * (end - first));
    for (std::size_t e = first; e < end; ++e) {
      const ExpertPart& p = map_.experts[e];
      DenseMatrix &a = halves[2 * (e - first)], &b = halves[2 * (e - first) + 1];
      a = symmetric_half(p.output_u, p.output_v, gemm());
      b = symmetric_half(p.input_v, p.input_u, gemm());
      place_columns(left, static_cast<std::int64_t>(e - first) * width, p.output_v, a);
      place_columns(right, static_cast<std::int64_t>(e - first) * width, p.input_u, b);
    }
    const DenseMatrix below = multiply_transposed(left, core, gemm());
    for (std::size_t e = first; e < end; ++e) {
      const ExpertPart& p = map_.experts[e];
      const DenseMatrix &a = halves[2 * (e - first)], &b = halves[2 * (e - first) + 1];
      const std::int64_t at = static_cast<std::int64_t>(e - first) * width;
      const DenseMatrix behind = side_by_side(b, p.input_u), before = side_by_side(a, p.output_v);
      DenseMatrix inner(width, width);
      gemm()(false, false, width, width, columns, 1, below.values.data() + at * columns, columns, behind.values.data(),
             width, 0, inner.values.data(), width);
      gemm()(false, false, rows, width, width, weights_[e], before.values.data(), width, inner.values.data(), width, 0,
             left.values.data() + at, all);
    }
    add_product(sum, 1, left, right, true, gemm());
  });
  add_scaled(out, total_weight(), core);
  add_product(out, 1, mean_left_, core, false, gemm());
  add_product(out, 1, core, mean_right_, false, gemm());
  return out;
}

/// sum f L^T W R^T, for a residual the mean of what the factors leave: the right side of the core's equations.
KDLIB_FUNC DenseMatrix ExpertCompressor::core_wanted() const {
  const bool residual = map_.form == CoreForm::residual;
  DenseMatrix wanted = sum_over_experts(map_.core, [&](std::size_t e, std::size_t end, DenseMatrix& sum) {
    for (; e < end; ++e) {
      const ExpertPart& p = map_.experts[e];
      add_scaled(sum, weights_[e], experts_[e]);
      if (residual) {
        add_product(sum, -weights_[e], p.a, p.b, true, gemm());
        continue;
      }
      // L^T W R^T = W + Vo (Uo^T W) + (L^T W Vi) Ui^T
      const DenseMatrix behind = wrapped(p.output_v, p.output_u, multiply(experts_[e], p.input_v, gemm()), gemm());
      add_product(sum, weights_[e], p.output_v, multiply_transposed(p.output_u, experts_[e], gemm()), false, gemm());
      add_product(sum, weights_[e], behind, p.input_u, true, gemm());
    }
  });
  if (residual) {
    const double total = total_weight();
    for (double& v : wanted.values) v /= total;
  }
  return wanted;
}

/// The core that is best for these factors: conjugate gradients on the normal equations from the present one, steered
/// by mean_factors(), or for a residual the mean. A step that lowers J by less than a tenth of the tolerance is the
/// last.
KDLIB_FUNC void ExpertCompressor::fit_core() {
  const DenseMatrix before = map_.core;
  const std::vector<double> errors_before = errors_;
  const double error_before = report_.objective;
  DenseMatrix wanted = core_wanted();
  if (map_.form == CoreForm::residual) {
    map_.core = std::move(wanted);
    measure();
    return told("core");
  }
  find_means();
  DenseMatrix rest = wanted;
  add_scaled(rest, -1, normal_product(map_.core));
  const auto factors = mean_factors();
  const DenseMatrix &left = factors.first, &right = factors.second;  // clang 14 captures no structured bindings
  const auto steered = [&](const DenseMatrix& m) {
    DenseMatrix out = solve_lower_transposed(left, solve_lower(left, m, gemm()), gemm()).transposed();
    return solve_lower_transposed(right, solve_lower(right, std::move(out), gemm()), gemm()).transposed();
  };
  DenseMatrix step_from = steered(rest), direction = step_from;
  double squares = inner_product(rest, step_from), error = error_before;
  const double enough = 1e-30 * inner_product(wanted, steered(wanted));
  for (std::int64_t step = 0; step < settings_.core_steps && squares > enough; ++step) {
    const DenseMatrix image = normal_product(direction);
    const double along = inner_product(direction, image);
    if (!(along > 0)) break;
    add_scaled(map_.core, squares / along, direction);
    const double gain = squares * squares / along;
    error -= gain;
    if (gain < 0.1 * settings_.tolerance * error) break;
    add_scaled(rest, -squares / along, image);
    step_from = steered(rest);
    const double now = inner_product(rest, step_from);
    for (double& v : direction.values) v *= now / squares;
    add_scaled(direction, 1, step_from);
    squares = now;
  }
  if (!(measure() <= error_before)) map_.core = before, errors_ = errors_before;
  told("core");
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
