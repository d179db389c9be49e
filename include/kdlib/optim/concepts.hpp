// SPDX-License-Identifier: Apache-2.0
// What an optimizer and a schedule must offer.
#ifndef KDLIB_OPTIM_CONCEPTS_HPP
#define KDLIB_OPTIM_CONCEPTS_HPP

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// A learning rate for each step: a pure function of the number of steps that were made before.
template <class S>
concept Schedule = requires(const S& schedule, std::int64_t step) {
  { schedule(step) } -> std::convertible_to<double>;
};

/// Optimizer settings. They are copyable and do not depend on types; state() makes the state for the parameters that a
/// run trains. `rates` has one factor of the rate for each parameter, or is empty for 1 everywhere. Parameters that are
/// not marked as trainable are left out of the state.
/// state.step(rate, gradient_scale) makes one update. state.tensors() returns what a checkpoint must keep; these
/// tensors share their memory with the state. state.steps() counts the calls of step().
template <class O, class T, class D>
concept Optimizer = std::copy_constructible<O> &&
    requires(const O& settings, std::vector<Parameter<T, D>*> parameters, std::vector<double> rates) {
  settings.template state<T, D>(parameters, rates);
  settings.template state<T, D>(parameters, rates).step(double{}, double{});
  settings.template state<T, D>(parameters, rates).tensors();
  { settings.template state<T, D>(parameters, rates).steps() } -> std::convertible_to<std::int64_t>;
  settings.template state<T, D>(parameters, rates).set_steps(std::int64_t{});
};

/// Returns the parameters that a model marks as trainable, in the order of the model.
template <class Model>
auto trainable_parameters(Model& model) {
  auto parameters = model.parameters();
  std::erase_if(parameters, [](const auto* p) { return !p->trainable; });
  return parameters;
}

/// Which parameters a run trains: select(name) is the factor of the rate; 0 freezes the parameter.
template <class S>
concept ParameterSelection = requires(const S& select, const std::string& name) {
  { select(name) } -> std::convertible_to<double>;
};

KDLIB_NAMESPACE_END

#include "kdlib/optim/concepts_inl.hpp"

#endif
