// SPDX-License-Identifier: Apache-2.0
// Forward and backward passes of low_rank_experts.hpp. A product x V_e of the rows of expert e with V [E, in, r] is
// expert_multiply_back, and z U_e^T with U [E, out, r] is expert_multiply: the kernels of plain experts.
#ifndef KDLIB_AUTOGRAD_LOW_RANK_EXPERTS_INL_HPP
#define KDLIB_AUTOGRAD_LOW_RANK_EXPERTS_INL_HPP

#include "kdlib/autograd/low_rank_experts.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T, class D>
Var<T, D> sort_by_expert(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x) {
  const std::int64_t rows = routing.token[0], n = x.value[0], h = x.value[1];
  Tensor<T, D> out(Shape{rows, h});
  Kernels<D, T>::gather_rows(x.value.data(), routing.token.data(), rows, h, out.data());
  Var<T, D> y = tape.variable(std::move(out), x.requires_gradient());
  if (!y.requires_gradient()) return y;
  tape.record([n, h, place = routing.place, active = routing.rule.active, slot = y.gradient, to_x = x.gradient] {
    if (!slot->value) return;
    const Tensor<T, D> dy = slot->take();
    const auto target = to_x->target();
    if (!target.add) to_x->value.fill_zero();
    Kernels<D, T>::combine_rows(dy.data(), place.data(), nullptr, n, active, h, target.data);
  });
  return y;
}

namespace detail {

/// Backward of add_low_rank(): dz = dy U_e, dU_e += dy^T z, dV_e += x^T dz, dx = dz V_e^T.
template <class T, class D>
void low_rank_backward(const ExpertRanges& ranges, Parameter<T, D>& up, Parameter<T, D>& down, const Tensor<T, D>& x,
                       const Tensor<T, D>& z, const Tensor<T, D>& dy, Gradient<T, D>* to_x) {
  using K = Kernels<D, T>;
  const std::int64_t out = up.value[1], in = down.value[1], rank = up.value[2];
  if (up.trainable) K::expert_weight_gradient(ranges, out, rank, dy.data(), z.data(), up.gradient_view().data());
  if (!down.trainable && to_x == nullptr) return;
  Tensor<T, D> dz(z.shape());
  K::expert_multiply_back(ranges, out, rank, dy.data(), up.value.data(), dz.data());
  if (down.trainable) K::expert_weight_gradient(ranges, in, rank, x.data(), dz.data(), down.gradient_view().data());
  if (to_x == nullptr) return;
  Tensor<T, D> dx(x.shape());
  K::expert_multiply(ranges, in, rank, dz.data(), down.value.data(), nullptr, dx.data());
  to_x->give(std::move(dx));
}

}  // namespace detail

template <class T, class D>
Var<T, D> add_low_rank(Tape<T, D>& tape, const Routing<T, D>& routing, Parameter<T, D>& up, Parameter<T, D>& down,
                       const Var<T, D>& x, const Var<T, D>& base) {
  using K = Kernels<D, T>;
  const std::int64_t rows = routing.token[0], experts = routing.rule.experts, out = up.value[1], in = down.value[1],
                     rank = up.value[2];
  require<ShapeError>(up.value.shape() == Shape{experts, out, rank} && down.value.shape() == Shape{experts, in, rank} &&
                          x.value.shape() == Shape{rows, in} && base.value.shape() == Shape{rows, out},
                      "[add_low_rank] x is ", x.value.shape(), ", base ", base.value.shape(), ", up ", up.value.shape(),
                      ", down ", down.value.shape(), "; ", experts, " experts have ", rows, " rows");
  Tensor<T, D> z(Shape{rows, rank}), value(Shape{rows, out});
  K::expert_multiply_back(routing.ranges(), in, rank, x.value.data(), down.value.data(), z.data());
  K::expert_multiply(routing.ranges(), out, rank, z.data(), up.value.data(), nullptr, value.data());
  K::axpy(value.count(), 1, base.value.data(), value.data());
  const bool inner = x.requires_gradient() || up.trainable || down.trainable;
  Var<T, D> y = tape.variable(std::move(value), inner || base.requires_gradient());
  if (!y.requires_gradient()) return y;
  tape.record([inner, routing, &up, &down, input = inner ? x.value : Tensor<T, D>(),
               z = inner ? std::move(z) : Tensor<T, D>(), slot = y.gradient, to_x = x.gradient,
               to_base = base.gradient] {
    if (!slot->value) return;
    Tensor<T, D> dy = slot->take();
    if (inner) detail::low_rank_backward(routing.ranges(), up, down, input, z, dy, to_x.get());
    if (to_base != nullptr) to_base->give(std::move(dy));
  });
  return y;
}

template <class T, class D>
Var<T, D> combine_experts(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& y,
                          const Var<T, D>& residual) {
  using K = Kernels<D, T>;
  const std::int64_t n = residual.value[0], h = residual.value[1], rows = routing.token[0];
  require<ShapeError>(y.value.shape() == Shape{rows, h}, "[combine_experts] y is ", y.value.shape(), "; ", rows,
                      " rows of ", h, " are needed");
  Tensor<T, D> value(residual.value.shape());
  detail::start_from(&residual, value);
  K::combine_rows(y.value.data(), routing.place.data(), routing.weights.value.data(), n, routing.rule.active, h,
                  value.data());
  const bool weighted = routing.weights.requires_gradient(), inner = weighted || y.requires_gradient();
  Var<T, D> out = tape.variable(std::move(value), inner || residual.requires_gradient());
  if (!out.requires_gradient()) return out;
  tape.record([rows, h, weighted, inner, routing, kept = weighted ? y.value : Tensor<T, D>(), slot = out.gradient,
               to_y = y.gradient, to_residual = residual.gradient] {
    if (!slot->value) return;
    Tensor<T, D> dy = slot->take();
    if (inner) {
      Tensor<T, D> sorted(Shape{rows, h});
      K::gather_rows(dy.data(), routing.token.data(), rows, h, sorted.data());
      if (weighted) {
        Tensor<T, D> dots(Shape{rows}), dw(routing.weights.value.shape());
        K::expert_row_dots(routing.ranges(), h, sorted.data(), kept.data(), false, false, dots.data());
        K::gather_rows(dots.data(), routing.place.data(), rows, 1, dw.data());
        routing.weights.gradient->give(std::move(dw));
      }
      if (to_y != nullptr) {
        K::scale_each_row(routing.sorted_weights().data(), rows, h, sorted.data());
        to_y->give(std::move(sorted));
      }
    }
    if (to_residual != nullptr) to_residual->give(std::move(dy));
  });
  return out;
}

KDLIB_NAMESPACE_END

#endif
