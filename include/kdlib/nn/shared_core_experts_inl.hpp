// SPDX-License-Identifier: Apache-2.0
// Bodies of shared_core_experts.hpp.
#ifndef KDLIB_NN_SHARED_CORE_EXPERTS_INL_HPP
#define KDLIB_NN_SHARED_CORE_EXPERTS_INL_HPP

#include "kdlib/nn/shared_core_experts.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
SharedCoreMap<D, T>::SharedCoreMap(const std::string& path, std::int64_t experts, std::int64_t out, std::int64_t in,
                                   CoreForm form, std::int64_t rank)
    : form_(form) {
  core_ = detail::make_parameter<D, T>(path + ".core", Shape{out, in});
  const auto factor = [&](const char* name, std::int64_t width) {
    return detail::make_parameter<D, T>(path + name, Shape{experts, width, rank});
  };
  if (form == CoreForm::residual) {
    beside_ = {factor(".residual.A", out), factor(".residual.B", in)};
    return;
  }
  input_ = {factor(".input_wrapper.U", in), factor(".input_wrapper.V", in)};
  output_ = {factor(".output_wrapper.U", out), factor(".output_wrapper.V", out)};
}

template <class D, class T>
Var<T, D> SharedCoreMap<D, T>::through_core(Tape<T, D>& tape, const Var<T, D>& x) const {
  LinearOperand<T, D> core;
  core.weight = core_.get();
  return linear(tape, core, x);
}

template <class D, class T>
Var<T, D> SharedCoreMap<D, T>::add_beside(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x,
                                          const Var<T, D>& base) const {
  if (form_ == CoreForm::residual) return add_low_rank(tape, routing, *beside_.up, *beside_.down, x, base);
  const Var<T, D> first = add_low_rank(tape, routing, *folded_.up, *input_.down, x, base);
  return add_low_rank(tape, routing, *output_.up, *folded_.down, x, first);
}

template <class D, class T>
Var<T, D> SharedCoreMap<D, T>::forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x) const {
  if (once()) return add_beside(tape, routing, x, through_core(tape, x));
  const Var<T, D> t = add_low_rank(tape, routing, *input_.up, *input_.down, x, x);
  const Var<T, D> u = through_core(tape, t);
  return add_low_rank(tape, routing, *output_.up, *output_.down, u, u);
}

template <class D, class T>
Var<T, D> SharedCoreMap<D, T>::forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x,
                                       const Var<T, D>& rows) const {
  if (!once()) return forward(tape, routing, rows);
  return add_beside(tape, routing, rows, sort_by_expert(tape, routing, through_core(tape, x)));
}

template <class D, class T>
Var<T, D> SharedCoreMap<D, T>::combine(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& h,
                                       const Var<T, D>& residual) const {
  if (!once()) return combine_experts(tape, routing, forward(tape, routing, h), residual);
  const auto zeros = [&](std::int64_t rows, std::int64_t width) {
    Tensor<T, D> value(Shape{rows, width});
    value.fill_zero();
    return tape.variable(std::move(value), false);
  };
  const std::int64_t tokens = residual.value[0];
  const Var<T, D> inner = combine_experts(tape, routing, h, zeros(tokens, in())),
                  beside = add_beside(tape, routing, h, zeros(h.value[0], out()));
  return add(tape, through_core(tape, inner), combine_experts(tape, routing, beside, residual));
}

template <class D, class T>
void SharedCoreMap<D, T>::fold() {
  using K = Kernels<D, T>;
  if (once()) return;
  for (const Parameter<T, D>* p : parameters())
    require<ConfigError>(!p->trainable, "[fold_cores] ", p->name,
                         " is trained, and what is formed of it would stay as it is");
  const std::int64_t o = out(), i = in(), experts = input_.up->value[0], r = input_.up->value[2];
  folded_ = {detail::make_parameter<D, T>(core_->name + ".F", Shape{experts, o, r}),
             detail::make_parameter<D, T>(core_->name + ".G", Shape{experts, i, r})};
  for (Parameter<T, D>* p : {folded_.up.get(), folded_.down.get()}) p->value = Tensor<T, D>(p->value.shape());
  Tensor<T, D> small(Shape{r, r});
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto of = [&](const std::unique_ptr<Parameter<T, D>>& p) { return p->value.data() + e * p->value[1] * r; };
    const T* core = core_->value.data();
    K::gemm(false, false, o, r, i, 1, core, i, of(input_.up), r, 0, of(folded_.up), r);
    K::gemm(true, false, i, r, o, 1, core, i, of(output_.down), r, 0, of(folded_.down), r);
    K::gemm(true, false, r, r, o, 1, of(folded_.up), r, of(output_.down), r, 0, small.data(), r);
    K::gemm(false, false, i, r, r, 1, of(input_.down), r, small.data(), r, 1, of(folded_.down), r);
  }
}

/// Wrappers: T = C + (C Ui) Vi^T, W = T + Uo (Vo^T T).
template <class D, class T>
void SharedCoreMap<D, T>::weight(std::int64_t expert, T* result) const {
  using K = Kernels<D, T>;
  const std::int64_t o = out(), i = in();
  const auto of = [expert](const std::unique_ptr<Parameter<T, D>>& p) {
    return p->value.data() + expert * p->value[1] * p->value[2];
  };
  Memory<D>::copy(result, core_->value.data(), static_cast<std::size_t>(core_->value.bytes()));
  if (form_ == CoreForm::residual) {
    const std::int64_t q = beside_.up->value[2];
    return K::gemm(false, true, o, i, q, 1, of(beside_.up), q, of(beside_.down), q, 1, result, i);
  }
  const std::int64_t r = input_.up->value[2];
  Tensor<T, D> narrow(Shape{o, r}), wide(Shape{r, i});
  K::gemm(false, false, o, r, i, 1, core_->value.data(), i, of(input_.up), r, 0, narrow.data(), r);
  K::gemm(false, true, o, i, r, 1, narrow.data(), r, of(input_.down), r, 1, result, i);
  K::gemm(true, false, r, i, o, 1, of(output_.down), r, result, i, 0, wide.data(), i);
  K::gemm(false, false, o, i, r, 1, of(output_.up), r, wide.data(), i, 1, result, i);
}

template <class D, class T>
std::vector<Parameter<T, D>*> SharedCoreMap<D, T>::parameters() const {
  if (form_ == CoreForm::residual) return {core_.get(), beside_.up.get(), beside_.down.get()};
  return {core_.get(), input_.up.get(), input_.down.get(), output_.up.get(), output_.down.get()};
}

template <class D, class T>
SharedCoreMap<D, T> SharedCoreMap<D, T>::share() const {
  const auto shared = [](const LowRankFactors<D, T>& f) {
    return LowRankFactors<D, T>{detail::share_parameter<D, T>(f.up), detail::share_parameter<D, T>(f.down)};
  };
  SharedCoreMap copy;
  copy.form_ = form_;
  copy.core_ = detail::share_parameter<D, T>(core_);
  copy.input_ = shared(input_);
  copy.output_ = shared(output_);
  copy.beside_ = shared(beside_);
  copy.folded_ = shared(folded_);
  return copy;
}

template <class D, class T>
SharedCoreExperts<D, T>::SharedCoreExperts(const std::string& path, std::int64_t experts, std::int64_t hidden,
                                           std::int64_t inner, CoreForm form, std::int64_t rank)
    : gate(path + ".gate_shared_core", experts, inner, hidden, form, rank),
      up(path + ".up_shared_core", experts, inner, hidden, form, rank),
      down(path + ".down_shared_core", experts, hidden, inner, form, rank) {}

template <class D, class T>
Var<T, D> SharedCoreExperts<D, T>::forward(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x,
                                           const Var<T, D>& residual) const {
  const Var<T, D> rows = sort_by_expert(tape, routing, x);
  const Var<T, D> g = gate.forward(tape, routing, x, rows), u = up.forward(tape, routing, x, rows);
  return down.combine(tape, routing, swiglu(tape, g, u), residual);
}

template <class D, class T>
void SharedCoreExperts<D, T>::append_parameters(std::vector<Parameter<T, D>*>& list) const {
  for (const SharedCoreMap<D, T>* map : {&gate, &up, &down})
    for (Parameter<T, D>* p : map->parameters()) list.push_back(p);
}

template <class D, class T>
std::unique_ptr<SharedCoreExperts<D, T>> SharedCoreExperts<D, T>::share() const {
  auto copy = std::make_unique<SharedCoreExperts>();
  copy->gate = gate.share();
  copy->up = up.share();
  copy->down = down.share();
  return copy;
}

KDLIB_NAMESPACE_END

#endif
