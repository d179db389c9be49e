// SPDX-License-Identifier: Apache-2.0
// What an optimizer and a schedule must offer, and the text form of settings that checkpoints compare.
#ifndef KDLIB_OPTIM_CONCEPTS_HPP
#define KDLIB_OPTIM_CONCEPTS_HPP

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings as (key, value) texts. A checkpoint keeps them; a later run with another value is refused, naming the key.
using SettingsList = std::vector<std::pair<std::string, std::string>>;

/// The text of a setting; numbers in the shortest form that reads back as the same number.
std::string setting_text(double value);
std::string setting_text(std::int64_t value);
std::string setting_text(bool value);

/// A rate for each step: a pure function, asked with the number of steps already taken.
template <class S>
concept Schedule = requires(const S& schedule, std::int64_t step) {
  { schedule(step) } -> std::convertible_to<double>;
};

/// Settings are copyable and know nothing of types; `state` is made for the parameters that a run trains.
/// `rates` holds one multiplier of the rate a parameter, or nothing for 1 everywhere.
/// state.step(rate, gradient_scale) makes one update; state.tensors() are what a checkpoint must keep (they share
/// memory with the state); state.steps() counts step() calls.
template <class O, class T, class D>
concept Optimizer = std::copy_constructible<O> &&
    requires(const O& settings, std::vector<Parameter<T, D>*> parameters, std::vector<double> rates) {
  settings.template state<T, D>(parameters, rates);
  settings.template state<T, D>(parameters, rates).step(double{}, double{});
  settings.template state<T, D>(parameters, rates).tensors();
  { settings.template state<T, D>(parameters, rates).steps() } -> std::convertible_to<std::int64_t>;
  settings.template state<T, D>(parameters, rates).set_steps(std::int64_t{});
};

/// Which parameters a run trains: select(name) is the multiplier of the rate, 0 = frozen.
template <class S>
concept ParameterSelection = requires(const S& select, const std::string& name) {
  { select(name) } -> std::convertible_to<double>;
};

KDLIB_NAMESPACE_END

#include "kdlib/optim/concepts_inl.hpp"

#endif
