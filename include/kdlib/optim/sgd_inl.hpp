// SPDX-License-Identifier: Apache-2.0
// Bodies of sgd.hpp.
#ifndef KDLIB_OPTIM_SGD_INL_HPP
#define KDLIB_OPTIM_SGD_INL_HPP

#include "kdlib/optim/sgd.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T, class D>
Sgd::State<T, D> Sgd::state(std::vector<Parameter<T, D>*> parameters, std::vector<double> rates) const {
  return State<T, D>(std::move(parameters), std::move(rates));
}

template <class T, class D>
Sgd::State<T, D>::State(std::vector<Parameter<T, D>*> parameters, std::vector<double> rates)
    : parameters_(std::move(parameters)), rates_(std::move(rates)) {
  detail::keep_trainable("Sgd", parameters_, rates_);
  for (Parameter<T, D>* parameter : parameters_) parameter->make_master();
}

template <class T, class D>
void Sgd::State<T, D>::step(double rate, double gradient_scale) {
  ++steps_;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Parameter<T, D>& p = *parameters_[i];
    using C = gradient_t<T>;
    p.make_master();  // unless values were loaded without one
    const Tensor<C, D> values = p.values_to_write();
    Kernels<D, C>::axpy(values.count(), static_cast<C>(-rate * rates_[i] * gradient_scale), p.gradient_view().data(),
                        values.data());
    p.values_changed();
  }
}

KDLIB_NAMESPACE_END

#endif
