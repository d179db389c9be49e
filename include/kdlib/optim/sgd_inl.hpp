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
}

template <class T, class D>
void Sgd::State<T, D>::step(double rate, double gradient_scale) {
  ++steps_;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Parameter<T, D>& p = *parameters_[i];
    Kernels<D, T>::axpy(p.value.count(), static_cast<T>(-rate * rates_[i] * gradient_scale), p.gradient_view().data(),
                        p.value.data());
  }
}

KDLIB_NAMESPACE_END

#endif
