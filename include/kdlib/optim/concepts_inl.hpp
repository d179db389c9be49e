// SPDX-License-Identifier: Apache-2.0
// Bodies of optim/concepts.hpp.
#ifndef KDLIB_OPTIM_CONCEPTS_INL_HPP
#define KDLIB_OPTIM_CONCEPTS_INL_HPP

#include <charconv>

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

inline std::string setting_text(double value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}
inline std::string setting_text(std::int64_t value) { return std::to_string(value); }
inline std::string setting_text(bool value) { return value ? "true" : "false"; }

namespace detail {
/// Checks the multipliers against the parameters; nothing given means 1 for all.
template <class T, class D>
std::vector<double> checked_rates(const char* name, const std::vector<Parameter<T, D>*>& parameters,
                                  std::vector<double> rates) {
  if (rates.empty()) rates.assign(parameters.size(), 1.0);
  require<ShapeError>(rates.size() == parameters.size(), "[", name, "] ", rates.size(), " rate multipliers for ",
                      parameters.size(), " parameters");
  return rates;
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
