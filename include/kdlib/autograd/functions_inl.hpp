// SPDX-License-Identifier: Apache-2.0
// Forward and backward passes of functions.hpp.
#ifndef KDLIB_AUTOGRAD_FUNCTIONS_INL_HPP
#define KDLIB_AUTOGRAD_FUNCTIONS_INL_HPP

#include "kdlib/autograd/functions.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// y[n, out] = x[n, in] W^T + beta * y.
template <class T, class D>
void multiply_weight(const LinearOperand<T, D>& w, std::int64_t n, const T* x, accumulate_t<T> beta, T* y) {
  const std::int64_t out = w.out(), in = w.in();
  if (w.packed != nullptr) return w.packed->multiply(0, out, n, x, beta, y, out);
  Kernels<D, T>::gemm(false, true, n, out, in, 1, x, in, w.weight->value.data(), in, beta, y, out);
}

/// dx[n, in] = dy[n, out] W (+ dx).
template <class T, class D>
void multiply_weight_back(const LinearOperand<T, D>& w, std::int64_t n, const T* dy, bool accumulate, T* dx) {
  const std::int64_t out = w.out(), in = w.in();
  const accumulate_t<T> beta = accumulate ? 1 : 0;
  if (w.packed != nullptr) return w.packed->multiply_back(0, out, n, dy, out, beta, dx);
  Kernels<D, T>::gemm(false, false, n, in, out, 1, dy, out, w.weight->value.data(), in, beta, dx, in);
}

constexpr std::int64_t panel_elements = 1 << 22;  // of a gradient at a time: 16 MiB in float

/// The gradient of a packed weight's values, dy^T x, given away by panels of rows.
template <class T, class D>
void packed_weight_gradient(const LinearOperand<T, D>& w, std::int64_t n, const T* x, const T* dy) {
  using K = Kernels<D, T>;
  const std::int64_t out = w.out(), in = w.in();
  if (gradient_t<T>* whole = w.packed_gradient->target(); whole != nullptr)
    return K::gemm(true, false, out, in, n, 1, dy, out, x, in, 1, whole, in);
  const std::int64_t panel = panel_elements / in > out ? out : (panel_elements > in ? panel_elements / in : 1);
  const Buffer<gradient_t<T>, D> scratch(panel * in);
  for (std::int64_t begin = 0; begin < out; begin += panel) {
    const std::int64_t count = out - begin < panel ? out - begin : panel;
    K::gemm(true, false, count, in, n, 1, dy + begin, out, x, in, 0, scratch.data(), in);
    w.packed_gradient->add(begin, count, scratch.data());
  }
}

/// y = x W^T + b + s u B^T (+ beta y), gives u = x A^T [n, R] (empty without LoRA, or where the codes hold it).
template <class T, class D>
Tensor<T, D> linear_forward(const LinearOperand<T, D>& w, std::int64_t n, const T* x, accumulate_t<T> beta, T* y) {
  using K = Kernels<D, T>;
  multiply_weight(w, n, x, beta, y);
  if (w.bias != nullptr) K::add_bias(w.bias->value.data(), n, w.out(), y);
  if (!w.has_lora() || w.lora_in_codes) return {};
  const std::int64_t rank = w.lora_a->value[0], in = w.in(), out = w.out();
  Tensor<T, D> u(Shape{n, rank});
  K::gemm(false, true, n, rank, in, 1, x, in, w.lora_a->value.data(), in, 0, u.data(), rank);
  K::gemm(false, true, n, out, rank, w.lora_scale, u.data(), rank, w.lora_b->value.data(), rank, 1, y, out);
  return u;
}

/// Parameter gradients from x (may be null where needs_input() is false) and u, and dx (may be null) written or added
/// to.
template <class T, class D>
void linear_backward(const LinearOperand<T, D>& w, std::int64_t n, const T* x, const Tensor<T, D>& u, const T* dy,
                     T* dx, bool accumulate) {
  using K = Kernels<D, T>;
  const std::int64_t in = w.in(), out = w.out();
  if (w.weight != nullptr && w.weight->trainable)
    K::gemm(true, false, out, in, n, 1, dy, out, x, in, 1, w.weight->gradient_view().data(), in);
  if (w.bias != nullptr && w.bias->trainable) K::add_column_sums(dy, n, out, w.bias->gradient_view().data());
  if (w.gradient_of_codes()) packed_weight_gradient(w, n, x, dy);
  if (dx != nullptr) multiply_weight_back(w, n, dy, accumulate, dx);
  if (!w.has_lora()) return;
  const std::int64_t rank = w.lora_a->value[0];
  Tensor<T, D> du(Shape{n, rank}), again;
  if (w.lora_in_codes && w.lora_b->trainable) {
    again = Tensor<T, D>(Shape{n, rank});
    K::gemm(false, true, n, rank, in, 1, x, in, w.lora_a->value.data(), in, 0, again.data(), rank);
  }
  K::gemm(false, false, n, rank, out, w.lora_scale, dy, out, w.lora_b->value.data(), rank, 0, du.data(), rank);
  if (w.lora_b->trainable)
    K::gemm(true, false, out, rank, n, w.lora_scale, dy, out, w.lora_in_codes ? again.data() : u.data(), rank, 1,
            w.lora_b->gradient_view().data(), rank);
  if (w.lora_a->trainable)
    K::gemm(true, false, rank, in, n, 1, du.data(), rank, x, in, 1, w.lora_a->gradient_view().data(), in);
  if (dx != nullptr && !w.lora_in_codes)
    K::gemm(false, false, n, in, rank, 1, du.data(), rank, w.lora_a->value.data(), in, 1, dx, in);
}

template <class T, class D>
void check_linear(const LinearOperand<T, D>& w, const Var<T, D>& x, const Var<T, D>* residual) {
  require<ShapeError>(x.value.shape().rank() == 2 && x.value[1] == w.in(), "[linear] x is ", x.value.shape(),
                      ", the weight [", w.out(), ", ", w.in(), "]");
  require<ShapeError>(residual == nullptr || residual->value.shape() == Shape{x.value[0], w.out()},
                      "[linear] the residual must be [", x.value[0], ", ", w.out(), "]");
}

/// The start of y: a copy of the residual, or nothing. beta to go with it.
template <class T, class D>
accumulate_t<T> start_from(const Var<T, D>* residual, Tensor<T, D>& y) {
  if (residual == nullptr) return 0;
  Memory<D>::copy(y.data(), residual->value.data(), static_cast<std::size_t>(y.bytes()));
  return 1;
}

/// act(gate) * up, and its gradients.
template <class T, class D>
void gate_product(GateActivation activation, const Var<T, D>& gate, const Var<T, D>& up, T* y) {
  const std::int64_t n = gate.value.count();
  if (activation == GateActivation::gelu_tanh) return Kernels<D, T>::geglu(gate.value.data(), up.value.data(), n, y);
  Kernels<D, T>::swiglu(gate.value.data(), up.value.data(), n, y);
}
template <class T, class D>
void gate_product_backward(GateActivation activation, const Var<T, D>& gate, const Var<T, D>& up, const T* gradient,
                           T* gate_gradient, T* up_gradient) {
  const std::int64_t n = gate.value.count();
  if (activation == GateActivation::gelu_tanh)
    return Kernels<D, T>::geglu_backward(gate.value.data(), up.value.data(), gradient, n, gate_gradient, up_gradient);
  Kernels<D, T>::swiglu_backward(gate.value.data(), up.value.data(), gradient, n, gate_gradient, up_gradient);
}

template <class T, class D>
std::shared_ptr<Gradient<T, D>> slot_of(const Var<T, D>* v) {
  return v == nullptr ? nullptr : v->gradient;
}

}  // namespace detail

template <class T, class D>
Var<T, D> embedding(Tape<T, D>& tape, Parameter<T, D>& table, const TokenLayout<D>& layout) {
  const std::int64_t n = layout.ids[0], width = table.value[1];
  Tensor<T, D> out(Shape{n, width});
  Kernels<D, T>::embedding(layout.ids.data(), n, width, table.value.data(), out.data());
  Var<T, D> y = tape.variable(std::move(out), table.trainable);
  if (y.requires_gradient())
    tape.record([&table, ids = layout.ids, slot = y.gradient, n, width] {
      if (!slot->value) return;
      const Tensor<T, D> dy = slot->take();
      Kernels<D, T>::embedding_backward(ids.data(), n, width, dy.data(), table.gradient_view().data());
    });
  return y;
}

template <class T, class D>
Var<T, D> embedding(Tape<T, D>& tape, const PackedMatrix<T, D>& table, const TokenLayout<D>& layout) {
  Tensor<T, D> out(Shape{layout.ids[0], table.columns()});
  table.gather(layout.ids.data(), layout.ids[0], out.data());
  return tape.variable(std::move(out), false);
}

template <class T, class D>
Var<T, D> linear(Tape<T, D>& tape, const LinearOperand<T, D>& operand, const Var<T, D>& x, const Var<T, D>* residual) {
  detail::check_linear(operand, x, residual);
  const std::int64_t n = x.value[0];
  Tensor<T, D> out(Shape{n, operand.out()});
  const accumulate_t<T> beta = detail::start_from(residual, out);
  Tensor<T, D> u = detail::linear_forward(operand, n, x.value.data(), beta, out.data());
  const bool wanted =
      x.requires_gradient() || operand.trains() || (residual != nullptr && residual->requires_gradient());
  Var<T, D> y = tape.variable(std::move(out), wanted);
  if (!y.requires_gradient()) return y;
  tape.record([operand, n, input = operand.needs_input() ? x.value : Tensor<T, D>(), u = std::move(u),
               slot = y.gradient, to_x = x.gradient, to_residual = detail::slot_of(residual)] {
    if (!slot->value) return;
    Tensor<T, D> dy = slot->take();
    if (to_x != nullptr) {
      const auto target = to_x->target();
      detail::linear_backward(operand, n, input.data(), u, dy.data(), target.data, target.add);
    } else {
      detail::linear_backward(operand, n, input.data(), u, dy.data(), static_cast<T*>(nullptr), false);
    }
    if (to_residual != nullptr) to_residual->give(std::move(dy));
  });
  return y;
}

template <class T, class D>
Var<T, D> rms_norm(Tape<T, D>& tape, Parameter<T, D>& weight, const Var<T, D>& x, double epsilon,
                   const Tensor<T, D>& ones) {
  const std::int64_t width = weight.value.count(), rows = x.value.count() / width;
  require<ShapeError>(rows * width == x.value.count(), "[rms_norm] x ", x.value.shape(),
                      " has no whole number of rows of ", width);
  const bool wanted = tape.recording() && (x.requires_gradient() || weight.trainable);
  Tensor<T, D> out(x.value.shape());
  Tensor<accumulate_t<T>, D> inverse;
  if (wanted) inverse = Tensor<accumulate_t<T>, D>(Shape{rows});
  Tensor<T, D> factor = weight.value;
  if (ones) {
    factor = Tensor<T, D>(weight.value.shape());
    Kernels<D, T>::add(weight.value.data(), ones.data(), width, factor.data());
  }
  Kernels<D, T>::rms_norm(x.value.data(), factor.data(), rows, width, epsilon, out.data(), inverse.data());
  Var<T, D> y = tape.variable(std::move(out), wanted);
  if (!wanted) return y;
  tape.record([&weight, factor = std::move(factor), input = x.value, inverse = std::move(inverse), rows, width,
               slot = y.gradient, to_x = x.gradient] {
    if (!slot->value) return;
    const Tensor<T, D> dy = slot->take();
    typename Gradient<T, D>::Target target{nullptr, false};
    if (to_x != nullptr) target = to_x->target();
    Kernels<D, T>::rms_norm_backward(input.data(), factor.data(), inverse.data(), dy.data(), rows, width, target.data,
                                     target.add, weight.trainable ? weight.gradient_view().data() : nullptr);
  });
  return y;
}

template <class T, class D>
Var<T, D> scaled(Tape<T, D>& tape, Var<T, D> x, std::type_identity_t<accumulate_t<T>> factor) {
  Kernels<D, T>::scale(x.value.count(), factor, x.value.data());
  Var<T, D> y = tape.variable(std::move(x.value), x.requires_gradient());
  if (y.requires_gradient())
    tape.record([factor, slot = y.gradient, to_x = x.gradient] {
      if (!slot->value) return;
      Tensor<T, D> g = slot->take();
      Kernels<D, T>::scale(g.count(), factor, g.data());
      to_x->give(std::move(g));
    });
  return y;
}

template <class T, class D>
Var<T, D> rope(Tape<T, D>& tape, Var<T, D> x, const RopeTable<T, D>& table, const TokenLayout<D>& layout,
               std::int64_t head_size) {
  const std::int64_t n = x.value[0], heads = x.value[1] / head_size;
  Kernels<D, T>::rope(x.value.data(), layout.positions.data(), n, heads, head_size, table.cosine.data(),
                      table.sine.data(), false);
  Var<T, D> y = tape.variable(std::move(x.value), x.requires_gradient());
  if (y.requires_gradient())
    tape.record([table, positions = layout.positions, n, heads, head_size, slot = y.gradient, to_x = x.gradient] {
      if (!slot->value) return;
      Tensor<T, D> g = slot->take();
      Kernels<D, T>::rope(g.data(), positions.data(), n, heads, head_size, table.cosine.data(), table.sine.data(),
                          true);
      to_x->give(std::move(g));
    });
  return y;
}

template <class T, class D>
Var<T, D> attention(Tape<T, D>& tape, const AttentionHeads& heads, const TokenLayout<D>& layout, const Var<T, D>& q,
                    const Var<T, D>& k, const Var<T, D>& v, Parameter<T, D>* sinks) {
  const bool inner = q.requires_gradient() || k.requires_gradient() || v.requires_gradient();
  const bool wanted = tape.recording() && (inner || (sinks != nullptr && sinks->trainable));
  Tensor<T, D> out(q.value.shape());
  Tensor<accumulate_t<T>, D> sums;
  if (wanted || sinks != nullptr) sums = Tensor<accumulate_t<T>, D>(Shape{q.value[0], heads.query_heads});
  Kernels<D, T>::attention(heads, layout.ranges(), q.value.data(), k.value.data(), v.value.data(), out.data(),
                           sums.data());
  if (sinks != nullptr)
    Kernels<D, T>::attention_sinks(q.value[0], heads.query_heads, heads.head_size, sinks->value.data(), out.data(),
                                   sums.data());
  Var<T, D> y = tape.variable(std::move(out), wanted);
  if (!wanted) return y;
  tape.record([heads, layout, q, k, v, sinks, inner, out = y.value, sums = std::move(sums), slot = y.gradient] {
    if (!slot->value) return;
    const Tensor<T, D> dy = slot->take();
    if (sinks != nullptr && sinks->trainable)
      Kernels<D, T>::attention_sinks_backward(q.value[0], heads.query_heads, heads.head_size, sinks->value.data(),
                                              out.data(), sums.data(), dy.data(), sinks->gradient_view().data());
    if (!inner) return;
    Tensor<T, D> dq(q.value.shape()), dk(k.value.shape()), dv(v.value.shape());
    Kernels<D, T>::attention_backward(heads, layout.ranges(), q.value.data(), k.value.data(), v.value.data(),
                                      out.data(), sums.data(), dy.data(), dq.data(), dk.data(), dv.data());
    if (q.requires_gradient()) q.gradient->give(std::move(dq));
    if (k.requires_gradient()) k.gradient->give(std::move(dk));
    if (v.requires_gradient()) v.gradient->give(std::move(dv));
  });
  return y;
}

template <class T, class D>
Var<T, D> gated_down(Tape<T, D>& tape, const LinearOperand<T, D>& down, const Var<T, D>& gate, const Var<T, D>& up,
                     const std::type_identity_t<Var<T, D>>* residual, GateActivation activation) {
  detail::check_linear(down, gate, residual);
  const std::int64_t n = gate.value[0];
  Tensor<T, D> product(gate.value.shape()), out(Shape{n, down.out()}), u;
  detail::gate_product(activation, gate, up, product.data());
  const accumulate_t<T> beta = detail::start_from(residual, out);
  u = detail::linear_forward(down, n, product.data(), beta, out.data());
  const bool inner = gate.requires_gradient() || up.requires_gradient();
  const bool passes = residual != nullptr && residual->requires_gradient();
  Var<T, D> y = tape.variable(std::move(out), inner || down.trains() || passes);
  if (!y.requires_gradient()) return y;
  tape.record([down, n, gate, up, activation, inner, u = std::move(u), slot = y.gradient,
               to_residual = detail::slot_of(residual)] {
    if (!slot->value) return;
    Tensor<T, D> dy = slot->take();
    const Shape shape = gate.value.shape();
    Tensor<T, D> input, dinput;
    if (down.needs_input()) {
      input = Tensor<T, D>(shape);
      detail::gate_product(activation, gate, up, input.data());
    }
    if (inner) dinput = Tensor<T, D>(shape);
    detail::linear_backward(down, n, input.data(), u, dy.data(), dinput.data(), false);
    if (inner) {
      Tensor<T, D> dup = input ? std::move(input) : Tensor<T, D>(shape);  // the product is not needed any more
      detail::gate_product_backward(activation, gate, up, dinput.data(), dinput.data(), dup.data());
      if (gate.requires_gradient()) gate.gradient->give(std::move(dinput));
      if (up.requires_gradient()) up.gradient->give(std::move(dup));
    }
    if (to_residual != nullptr) to_residual->give(std::move(dy));
  });
  return y;
}

template <class T, class D>
Var<T, D> swiglu(Tape<T, D>& tape, const Var<T, D>& gate, const Var<T, D>& up) {
  Tensor<T, D> out(gate.value.shape());
  Kernels<D, T>::swiglu(gate.value.data(), up.value.data(), out.count(), out.data());
  Var<T, D> y = tape.variable(std::move(out), gate.requires_gradient() || up.requires_gradient());
  if (y.requires_gradient())
    tape.record([gate, up, slot = y.gradient] {
      if (!slot->value) return;
      Tensor<T, D> dy = slot->take(), dup(gate.value.shape());
      Kernels<D, T>::swiglu_backward(gate.value.data(), up.value.data(), dy.data(), dy.count(), dy.data(), dup.data());
      if (gate.requires_gradient()) gate.gradient->give(std::move(dy));
      if (up.requires_gradient()) up.gradient->give(std::move(dup));
    });
  return y;
}

template <class T, class D>
Var<T, D> add(Tape<T, D>& tape, const Var<T, D>& a, const Var<T, D>& b) {
  require<ShapeError>(a.value.shape() == b.value.shape(), "[add] a is ", a.value.shape(), ", b is ", b.value.shape());
  Tensor<T, D> out(a.value.shape());
  Kernels<D, T>::add(a.value.data(), b.value.data(), out.count(), out.data());
  Var<T, D> y = tape.variable(std::move(out), a.requires_gradient() || b.requires_gradient());
  if (y.requires_gradient())
    tape.record([slot = y.gradient, to_a = a.gradient, to_b = b.gradient] {
      if (!slot->value) return;
      Tensor<T, D> dy = slot->take();
      if (to_a != nullptr && to_b != nullptr) to_a->give(dy.clone());
      else if (to_a != nullptr) return to_a->give(std::move(dy));
      to_b->give(std::move(dy));
    });
  return y;
}

KDLIB_NAMESPACE_END

#endif
