// SPDX-License-Identifier: Apache-2.0
// Bodies of shared_core.hpp.
#ifndef KDLIB_MODEL_SHARED_CORE_INL_HPP
#define KDLIB_MODEL_SHARED_CORE_INL_HPP

#include <cmath>

#include "kdlib/core/fields.hpp"
#include "kdlib/model/shared_core.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC DenseMatrix wrapped(const DenseMatrix& u, const DenseMatrix& v, const DenseMatrix& x, DenseGemm gemm) {
  DenseMatrix out = x;
  add_product(out, 1, u, multiply_transposed(v, x, gemm), false, gemm);
  return out;
}

KDLIB_FUNC DenseMatrix wrapped_behind(const DenseMatrix& x, const DenseMatrix& u, const DenseMatrix& v,
                                      DenseGemm gemm) {
  DenseMatrix out = x;
  add_product(out, 1, multiply(x, u, gemm), v, true, gemm);
  return out;
}

}  // namespace detail

KDLIB_FUNC DenseMatrix SharedCore::apply(std::size_t expert, const DenseMatrix& x) const {
  const ExpertPart& p = experts[expert];
  if (form == CoreForm::residual) {
    DenseMatrix out = multiply(core, x);
    add_scaled(out, 1, multiply(p.a, multiply_transposed(p.b, x)));
    return out;
  }
  return detail::wrapped(p.output_u, p.output_v, multiply(core, detail::wrapped(p.input_u, p.input_v, x)));
}

/// Wrappers: T = C + (C Ui) Vi^T, W = T + Uo (Vo^T T).
KDLIB_FUNC DenseMatrix SharedCore::weight(std::size_t expert, DenseGemm gemm) const {
  const ExpertPart& p = experts[expert];
  if (form == CoreForm::residual) {
    DenseMatrix out = core;
    add_product(out, 1, p.a, p.b, true, gemm);
    return out;
  }
  return detail::wrapped(p.output_u, p.output_v, detail::wrapped_behind(core, p.input_u, p.input_v, gemm), gemm);
}

KDLIB_FUNC std::int64_t SharedCore::parameters() const {
  std::int64_t sum = core.rows * core.columns;
  for (const ExpertPart& p : experts)
    for (const DenseMatrix* m : detail::part_matrices(p)) sum += m->rows * m->columns;
  return sum;
}

KDLIB_FUNC ExpertPart empty_part(CoreForm form, std::int64_t out, std::int64_t in, std::int64_t rank) {
  if (form == CoreForm::residual) return {{}, {}, {}, {}, DenseMatrix(out, rank), DenseMatrix(in, rank)};
  return {DenseMatrix(in, rank), DenseMatrix(in, rank), DenseMatrix(out, rank), DenseMatrix(out, rank), {}, {}};
}

/// With t = x + Ui(Vi^T x), u = C t, h = C^T (g + Vo(Uo^T g)): dUo = g(Vo^T u)^T, dVo = u(Uo^T g)^T,
/// dC = (g + Vo(Uo^T g)) t^T, dUi = h(Vi^T x)^T, dVi = x(Ui^T h)^T, dx = h + Vi(Ui^T h).
KDLIB_FUNC SharedCoreGradient gradient(const SharedCore& map, std::size_t expert, const DenseMatrix& x,
                                       const DenseMatrix& g) {
  const ExpertPart& p = map.experts[expert];
  SharedCoreGradient out;
  if (map.form == CoreForm::residual) {
    const DenseMatrix below = multiply_transposed(p.a, g), inner = multiply_transposed(p.b, x);
    out.core = multiply_by_transposed(g, x);
    out.part.a = multiply_by_transposed(g, inner);
    out.part.b = multiply_by_transposed(x, below);
    out.x = multiply_transposed(map.core, g);
    add_scaled(out.x, 1, multiply(p.b, below));
    return out;
  }
  const DenseMatrix t = detail::wrapped(p.input_u, p.input_v, x), u = multiply(map.core, t);
  const DenseMatrix below = detail::wrapped(p.output_v, p.output_u, g), h = multiply_transposed(map.core, below);
  out.part.output_u = multiply_by_transposed(g, multiply_transposed(p.output_v, u));
  out.part.output_v = multiply_by_transposed(u, multiply_transposed(p.output_u, g));
  out.core = multiply_by_transposed(below, t);
  out.part.input_u = multiply_by_transposed(h, multiply_transposed(p.input_v, x));
  out.part.input_v = multiply_by_transposed(x, multiply_transposed(p.input_u, h));
  out.x = detail::wrapped(p.input_v, p.input_u, h);
  return out;
}

KDLIB_FUNC std::int64_t shared_core_parameters(std::int64_t experts, std::int64_t out, std::int64_t in,
                                               std::int64_t rank) {
  return out * in + 2 * experts * rank * (out + in);
}

KDLIB_FUNC std::int64_t rank_for_share(double share, std::int64_t experts, std::int64_t out, std::int64_t in) {
  const double e = static_cast<double>(experts), free = share * e - 1;
  const double rank =
      std::floor(free * static_cast<double>(out) * static_cast<double>(in) / (2 * e * static_cast<double>(out + in)));
  require<ConfigError>(std::isfinite(share) && rank >= 1, "[rank_for_share] a share of ", setting_text(share), " of ",
                       experts, " experts [", out, ", ", in, "] leaves no rank: the shared core alone takes 1/",
                       experts);
  return static_cast<std::int64_t>(rank);
}

KDLIB_NAMESPACE_END

#endif
