// SPDX-License-Identifier: Apache-2.0
// Forward and backward passes of experts.hpp.
#ifndef KDLIB_AUTOGRAD_EXPERTS_INL_HPP
#define KDLIB_AUTOGRAD_EXPERTS_INL_HPP

#include <vector>

#include "kdlib/autograd/experts.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D>
std::int64_t RouterSums<D>::tokens() const {
  std::int64_t n = 0;
  for (const std::int64_t t : tokens_) n += t;
  return n;
}

template <class D>
template <class T>
const Tensor<double, D>& RouterSums<D>::totals() {
  if (totals_ || !table_) return totals_;
  totals_ = Tensor<double, D>(Shape{table_[1]});
  Kernels<D, T>::router_totals(table_[0], table_[1], table_.data(), totals_.data());
  return totals_;
}

template <class D>
double RouterSums<D>::push() const {
  const double n = static_cast<double>(tokens()), experts = table_ ? static_cast<double>(table_[1] / 2) : 0;
  return balance_weight * experts / (n * n);
}

namespace detail {

/// y[R, out] = x[R, in] W_e^T (+ bias_e), of a dense or a packed weight.
template <class T, class D>
void multiply_experts(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* x,
                      const Parameter<T, D>* weight, const PackedMatrix<T, D>* packed, const Parameter<T, D>* bias,
                      T* y) {
  const T* b = bias == nullptr ? nullptr : bias->value.data();
  if (packed != nullptr) Kernels<D, T>::expert_multiply_packed(ranges, out, x, *packed, b, y);
  else Kernels<D, T>::expert_multiply(ranges, out, in, x, weight->value.data(), b, y);
}

/// dx[R, in] = dy[R, out] W_e.
template <class T, class D>
void multiply_experts_back(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* dy,
                           const Parameter<T, D>* weight, const PackedMatrix<T, D>* packed, T* dx) {
  if (packed != nullptr) Kernels<D, T>::expert_multiply_back_packed(ranges, out, dy, *packed, dx);
  else Kernels<D, T>::expert_multiply_back(ranges, out, in, dy, weight->value.data(), dx);
}

/// Backward of experts() for one pass; temporaries are [R, H] twice and [R, 2I] thrice at most.
template <class T, class D>
struct ExpertsBackward {
  ExpertOperand<T, D> w;
  Routing<T, D> routing;
  Var<T, D> x;
  Tensor<T, D> u;  // [R, 2I]

  std::int64_t hidden() const { return x.value[1]; }
  std::int64_t inner() const { return u[1] / 2; }
  std::int64_t rows() const { return u[0]; }

  /// Gradient of the activation's result (da, unweighted) and of the routing weights.
  void weights_gradient(const Tensor<T, D>& dys, const Tensor<T, D>& a, const Tensor<T, D>& da) const {
    using K = Kernels<D, T>;
    if (!routing.weights.requires_gradient()) return;
    Tensor<T, D> dots(Shape{rows()}), dw(routing.weights.value.shape());
    K::expert_row_dots(routing.ranges(), inner(), da.data(), a.data(), false, false, dots.data());
    if (w.down_bias != nullptr)
      K::expert_row_dots(routing.ranges(), hidden(), dys.data(), w.down_bias->value.data(), true, true, dots.data());
    K::gather_rows(dots.data(), routing.place.data(), rows(), 1, dw.data());
    routing.weights.gradient->give(std::move(dw));
  }

  void run(const Tensor<T, D>& dy) const {
    using K = Kernels<D, T>;
    const ExpertRanges ranges = routing.ranges();
    const std::int64_t r = rows(), h = hidden(), i = inner();
    Tensor<T, D> dys(Shape{r, h}), a(Shape{r, i}), da(Shape{r, i});
    K::gather_rows(dy.data(), routing.token.data(), r, h, dys.data());
    K::expert_activation(w.activation, u.data(), r, i, a.data());
    multiply_experts_back(ranges, h, i, dys.data(), w.down, w.packed_down, da.data());
    weights_gradient(dys, a, da);
    const Tensor<T, D> sorted = routing.sorted_weights();
    K::scale_each_row(sorted.data(), r, h, dys.data());
    if (w.down != nullptr && w.down->trainable)
      K::expert_weight_gradient(ranges, h, i, dys.data(), a.data(), w.down->gradient_view().data());
    if (w.down_bias != nullptr && w.down_bias->trainable)
      K::expert_bias_gradient(ranges, h, dys.data(), w.down_bias->gradient_view().data());
    a.reset();
    K::scale_each_row(sorted.data(), r, i, da.data());
    Tensor<T, D> du(u.shape());
    K::expert_activation_backward(w.activation, u.data(), da.data(), r, i, du.data());
    if (w.gate_up_bias != nullptr && w.gate_up_bias->trainable)
      K::expert_bias_gradient(ranges, 2 * i, du.data(), w.gate_up_bias->gradient_view().data());
    if (w.gate_up != nullptr && w.gate_up->trainable) {  // dys has served: x goes there
      K::gather_rows(x.value.data(), routing.token.data(), r, h, dys.data());
      K::expert_weight_gradient(ranges, 2 * i, h, du.data(), dys.data(), w.gate_up->gradient_view().data());
    }
    if (!x.requires_gradient()) return;
    multiply_experts_back(ranges, 2 * i, h, du.data(), w.gate_up, w.packed_gate_up, dys.data());
    const auto target = x.gradient->target();
    if (!target.add) x.gradient->value.fill_zero();
    K::combine_rows(dys.data(), routing.place.data(), nullptr, x.value[0], routing.rule.active, h, target.data);
  }
};

}  // namespace detail

template <class T, class D>
Routing<T, D> route(Tape<T, D>& tape, const RouterRule& rule, const Var<T, D>& logits,
                    const Tensor<std::int32_t, D>& given, RouterSums<D>* sums, std::int64_t layer) {
  using K = Kernels<D, T>;
  const std::int64_t n = logits.value[0], rows = n * rule.active;
  require<ShapeError>(logits.value[1] == rule.experts && rule.active >= 1 && rule.active <= rule.experts, "[route] ",
                      rule.active, " of ", rule.experts, " experts for logits ", logits.value.shape());
  require<ShapeError>(!given || given.shape() == Shape{n, rule.active}, "[route] the given experts must be [", n, ", ",
                      rule.active, "]");
  Routing<T, D> r;
  r.rule = rule;
  r.ids = given ? given : Tensor<std::int32_t, D>(Shape{n, rule.active});
  Tensor<T, D> weights(Shape{n, rule.active});
  if (given) K::route_again(rule, logits.value.data(), n, r.ids.data(), weights.data());
  else K::route(rule, logits.value.data(), n, r.ids.data(), weights.data());
  r.offsets = Tensor<std::int64_t, D>(Shape{rule.experts + 1});
  r.token = Tensor<std::int64_t, D>(Shape{rows});
  r.place = Tensor<std::int64_t, D>(Shape{n, rule.active});
  K::group_by_expert(rule, r.ids.data(), n, r.offsets.data(), r.token.data(), r.place.data());
  r.weights = tape.variable(std::move(weights), logits.requires_gradient());
  const bool counted =
      sums != nullptr && sums->wanted();  // recomputed layers record later, and fill it again with the same
  if (counted) K::router_sums(rule, logits.value.data(), r.ids.data(), n, sums->put(layer, n, rule.experts));
  if (!r.weights.requires_gradient()) return r;
  tape.record(
      [rule, n, logits, ids = r.ids, w = r.weights.value, slot = r.weights.gradient, sums = counted ? sums : nullptr] {
        Tensor<T, D> dz;
        if (slot->value) {
          const Tensor<T, D> dw = slot->take();
          dz = Tensor<T, D>(logits.value.shape());
          K::route_backward(rule, logits.value.data(), ids.data(), w.data(), dw.data(), n, dz.data());
        } else if (sums != nullptr) {
          dz = Tensor<T, D>::zeros(logits.value.shape());
        }
        if (!dz) return;
        if (sums != nullptr)
          K::router_sums_backward(rule, logits.value.data(), n, sums->template totals<T>().data(), sums->push(),
                                  sums->square(), dz.data());
        logits.gradient->give(std::move(dz));
      });
  return r;
}

template <class T, class D>
Var<T, D> experts(Tape<T, D>& tape, const ExpertOperand<T, D>& w, const Routing<T, D>& routing, const Var<T, D>& x,
                  const Var<T, D>& residual) {
  using K = Kernels<D, T>;
  const std::int64_t n = x.value[0], h = x.value[1], rows = routing.token[0], inner = w.inner(),
                     experts = routing.rule.experts;
  require<ShapeError>(w.gate_up_shape(experts) == Shape{experts, 2 * inner, h} && w.out(experts) == h,
                      "[experts] x is ", x.value.shape(), ", gate_up ", w.gate_up_shape(experts), ", down [", experts,
                      ", ", w.out(experts), ", ", inner, "]");
  require<ShapeError>(residual.value.shape() == x.value.shape(), "[experts] x is ", x.value.shape(), ", the residual ",
                      residual.value.shape());
  Tensor<T, D> u(Shape{rows, 2 * inner}), out(x.value.shape());
  {
    Tensor<T, D> sorted(Shape{rows, h}), a(Shape{rows, inner});  // sorted: x by expert, then what the experts give
    K::gather_rows(x.value.data(), routing.token.data(), rows, h, sorted.data());
    detail::multiply_experts(routing.ranges(), 2 * inner, h, sorted.data(), w.gate_up, w.packed_gate_up, w.gate_up_bias,
                             u.data());
    K::expert_activation(w.activation, u.data(), rows, inner, a.data());
    detail::multiply_experts(routing.ranges(), h, inner, a.data(), w.down, w.packed_down, w.down_bias, sorted.data());
    detail::start_from(&residual, out);
    K::combine_rows(sorted.data(), routing.place.data(), routing.weights.value.data(), n, routing.rule.active, h,
                    out.data());
  }
  const bool inner_wanted = x.requires_gradient() || routing.weights.requires_gradient() || w.trains();
  Var<T, D> y = tape.variable(std::move(out), inner_wanted || residual.requires_gradient());
  if (!y.requires_gradient()) return y;
  tape.record([inner_wanted, back = detail::ExpertsBackward<T, D>{w, routing, x, std::move(u)}, slot = y.gradient,
               to_residual = residual.gradient] {
    if (!slot->value) return;
    Tensor<T, D> dy = slot->take();
    if (inner_wanted) back.run(dy);
    if (to_residual != nullptr) to_residual->give(std::move(dy));
  });
  return y;
}

template <class T, class D>
Var<T, D> add_gated(Tape<T, D>& tape, const Var<T, D>& gate, const Var<T, D>& x, const Var<T, D>& residual) {
  const std::int64_t n = x.value[0], h = x.value[1];
  require<ShapeError>(gate.value.shape() == Shape{n, 1} && residual.value.shape() == x.value.shape(),
                      "[add_gated] x is ", x.value.shape(), ", the gate ", gate.value.shape(), ", the residual ",
                      residual.value.shape());
  Tensor<T, D> out(x.value.shape());
  detail::start_from(&residual, out);
  Kernels<D, T>::add_gated(gate.value.data(), x.value.data(), n, h, out.data());
  const bool inner = gate.requires_gradient() || x.requires_gradient();
  Var<T, D> y = tape.variable(std::move(out), inner || residual.requires_gradient());
  if (!y.requires_gradient()) return y;
  tape.record([n, h, gate, x, inner, slot = y.gradient, to_residual = residual.gradient] {
    if (!slot->value) return;
    Tensor<T, D> dy = slot->take();
    if (inner) {
      Tensor<T, D> dgate(gate.value.shape()), dx(x.value.shape());
      Kernels<D, T>::add_gated_backward(gate.value.data(), x.value.data(), dy.data(), n, h, dgate.data(), dx.data());
      if (gate.requires_gradient()) gate.gradient->give(std::move(dgate));
      if (x.requires_gradient()) x.gradient->give(std::move(dx));
    }
    if (to_residual != nullptr) to_residual->give(std::move(dy));
  });
  return y;
}

KDLIB_NAMESPACE_END

#endif
