// SPDX-License-Identifier: Apache-2.0
// Bodies of adamw.hpp.
#ifndef KDLIB_OPTIM_ADAMW_INL_HPP
#define KDLIB_OPTIM_ADAMW_INL_HPP

#include <cmath>
#include <string_view>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/optim/adamw.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Biases and norms stay where they are drawn to, also those that are a matrix (the biases of all experts [E, out]).
template <class T, class D>
bool takes_decay(const Parameter<T, D>& p) {
  const auto named = [&p](std::string_view word) { return p.name.find(word) != std::string::npos; };
  return p.decays && p.value.shape().rank() >= 2 && !named("bias") && !named("norm");
}
}  // namespace detail

template <class T, class D>
AdamW::State<T, D> AdamW::state(std::vector<Parameter<T, D>*> parameters, std::vector<double> rates) const {
  return State<T, D>(*this, std::move(parameters), std::move(rates));
}

template <class T, class D>
AdamW::State<T, D>::State(const AdamW& settings, std::vector<Parameter<T, D>*> parameters, std::vector<double> rates)
    : settings_(settings), parameters_(std::move(parameters)), rates_(std::move(rates)) {
  detail::keep_trainable("AdamW", parameters_, rates_);
  require<ConfigError>(settings.beta1 >= 0 && settings.beta1 < 1, "[AdamW] beta1 is ", settings.beta1,
                       "; it must lie in [0, 1)");
  require<ConfigError>(settings.beta2 >= 0 && settings.beta2 < 1, "[AdamW] beta2 is ", settings.beta2,
                       "; it must lie in [0, 1)");
  require<ConfigError>(settings.epsilon > 0, "[AdamW] epsilon is ", settings.epsilon, "; it must be above 0");
  require<ConfigError>(settings.weight_decay >= 0, "[AdamW] weight_decay is ", settings.weight_decay,
                       "; it must be 0 or above");
  first_.reserve(parameters_.size());
  second_.reserve(parameters_.size());
  for (Parameter<T, D>* parameter : parameters_) {
    parameter->make_master();
    first_.push_back(Tensor<moment_type, D>::zeros(parameter->value.shape()));
    second_.push_back(Tensor<moment_type, D>::zeros(parameter->value.shape()));
  }
}

template <class T, class D>
void AdamW::State<T, D>::update(double rate, double gradient_scale, const GradientFactor* there) {
  ++steps_;
  AdamWStep step;
  step.beta1 = settings_.beta1;
  step.beta2 = settings_.beta2;
  step.epsilon = settings_.epsilon;
  step.correction1 = 1 - std::pow(settings_.beta1, static_cast<double>(steps_));
  step.correction2 = 1 - std::pow(settings_.beta2, static_cast<double>(steps_));
  step.gradient_scale = gradient_scale;
  step.there = there;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Parameter<T, D>& p = *parameters_[i];
    step.rate = rate * rates_[i];
    step.weight_decay = detail::takes_decay(p) ? settings_.weight_decay : 0.0;
    p.make_master();  // unless values were loaded without one
    const Tensor<moment_type, D> values = p.values_to_write();
    Kernels<D, moment_type>::adamw(step, values.count(), p.gradient_view().data(), first_[i].data(), second_[i].data(),
                                   values.data());
    p.values_changed();
  }
}

template <class T, class D>
std::vector<std::pair<std::string, Tensor<typename AdamW::State<T, D>::moment_type, D>>> AdamW::State<T, D>::tensors()
    const {
  std::vector<std::pair<std::string, Tensor<moment_type, D>>> out;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    out.emplace_back("first_moment." + parameters_[i]->name, first_[i]);
    out.emplace_back("second_moment." + parameters_[i]->name, second_[i]);
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
