// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_experts.hpp: Adam on the squared error.
#ifndef KDLIB_MODEL_COMPRESS_ADAM_INL_HPP
#define KDLIB_MODEL_COMPRESS_ADAM_INL_HPP

#include <limits>

#include "kdlib/core/rng.hpp"
#include "kdlib/model/compress_experts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr double full_turn = 6.283185307179586476925286766559;  // 2 pi

/// Adam with the usual constants (0.9, 0.999, 1e-8) on one matrix.
struct AdamMoments {
  DenseMatrix first, second;

  explicit AdamMoments(const DenseMatrix& shape)
      : first(shape.rows, shape.columns), second(shape.rows, shape.columns) {}

  void step(DenseMatrix& w, const DenseMatrix& g, double rate, std::int64_t t) {
    const double c1 = 1 - std::pow(0.9, static_cast<double>(t)), c2 = 1 - std::pow(0.999, static_cast<double>(t));
    for (std::size_t i = 0; i < w.values.size(); ++i) {
      first.values[i] = 0.9 * first.values[i] + 0.1 * g.values[i];
      second.values[i] = 0.999 * second.values[i] + 0.001 * g.values[i] * g.values[i];
      w.values[i] -= rate * (first.values[i] / c1) / (std::sqrt(second.values[i] / c2) + 1e-8);
    }
  }
};

/// U = 0, V ~ N(0, 1) / sqrt(rank): the map is the core alone at the start. For a residual A = 0 and B is random.
KDLIB_FUNC void ExpertCompressor::random_factors() {
  const double deviation = 1 / std::sqrt(static_cast<double>(settings_.rank));
  std::uint32_t row = 0;
  for (ExpertPart& p : map_.experts)
    for (DenseMatrix* m : {&p.input_v, &p.output_v, &p.b}) {
      const Rng rng(settings_.seed, RngPurpose::initialise, 3, row++);
      for (std::size_t i = 0; i < m->values.size(); ++i) {
        const double u = rng.uniform(static_cast<std::uint32_t>(2 * i)),
                     v = rng.uniform(static_cast<std::uint32_t>(2 * i + 1));
        m->values[i] = deviation * std::sqrt(-2 * std::log(1 - u)) * std::cos(full_turn * v);
      }
    }
}

/// Error of this expert and its gradients; the core's is added. G = 2 f (W' - W), u = C R, H = L^T G: dC = H R^T,
/// dUo = G u^T Vo, dVo = u G^T Uo, dUi = C^T H Vi, dVi = H^T C Ui; of a residual dC = G, dA = G B, dB = G^T A.
KDLIB_FUNC ExpertPart ExpertCompressor::descend_gradient(std::size_t e, DenseMatrix& core_gradient,
                                                         double& error) const {
  const ExpertPart& p = map_.experts[e];
  ExpertPart out;
  const auto difference = [&](DenseMatrix w) {
    add_scaled(w, -1, experts_[e]);
    error = weights_[e] * w.squares();
    for (double& v : w.values) v *= 2 * weights_[e];
    return w;
  };
  if (map_.form == CoreForm::residual) {
    const DenseMatrix g = difference(map_.weight(e, gemm()));
    add_scaled(core_gradient, 1, g);
    out.a = multiply(g, p.b, gemm());
    out.b = multiply_transposed(g, p.a, gemm());
    return out;
  }
  const DenseMatrix narrow = multiply(map_.core, p.input_u, gemm());
  DenseMatrix u = map_.core;
  add_product(u, 1, narrow, p.input_v, true, gemm());
  const DenseMatrix g = difference(wrapped(p.output_u, p.output_v, u, gemm()));
  const DenseMatrix below = multiply_transposed(g, p.output_u, gemm());
  DenseMatrix h = g;
  add_product(h, 1, p.output_v, below, true, gemm());
  const DenseMatrix h_v = multiply(h, p.input_v, gemm());
  add_scaled(core_gradient, 1, h);
  add_product(core_gradient, 1, h_v, p.input_u, true, gemm());
  out.output_u = multiply(g, multiply_transposed(u, p.output_v, gemm()), gemm());
  out.output_v = multiply(u, below, gemm());
  out.input_u = multiply_transposed(map_.core, h_v, gemm());
  out.input_v = multiply_transposed(h, narrow, gemm());
  return out;
}

/// Gradients of all experts; J as it is.
KDLIB_FUNC double ExpertCompressor::descend_step(DenseMatrix& core_gradient, std::vector<ExpertPart>& gradients) const {
  std::vector<double> errors(experts_.size());
  core_gradient = sum_over_experts(map_.core, [&](std::size_t e, std::size_t end, DenseMatrix& sum) {
    for (; e < end; ++e) gradients[e] = descend_gradient(e, sum, errors[e]);
  });
  return std::accumulate(errors.begin(), errors.end(), 0.0);
}

KDLIB_FUNC void ExpertCompressor::descend(const char* name, std::int64_t steps) {
  AdamMoments core_moments(map_.core);
  std::vector<std::vector<AdamMoments>> moments;
  for (ExpertPart& p : map_.experts) {
    auto& list = moments.emplace_back();
    for (const DenseMatrix* m : part_matrices(p)) list.emplace_back(*m);
  }
  SharedCore best = map_;
  double least = std::numeric_limits<double>::infinity();
  DenseMatrix core_gradient;
  std::vector<ExpertPart> gradients(experts_.size());
  for (std::int64_t t = 1; t <= steps; ++t) {
    if (const double now = descend_step(core_gradient, gradients); now < least) least = now, best = map_;
    core_moments.step(map_.core, core_gradient, settings_.adam_rate, t);
    each_expert([&](std::size_t e) {
      const auto parts = part_matrices(map_.experts[e]);
      const auto part_gradients = part_matrices(gradients[e]);
      for (std::size_t i = 0; i < parts.size(); ++i)
        moments[e][i].step(*parts[i], *part_gradients[i], settings_.adam_rate, t);
    });
  }
  if (!(measure() < least)) {
    map_ = std::move(best);
    measure();
  }
  told(name);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
