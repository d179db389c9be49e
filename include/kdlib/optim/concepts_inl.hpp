// SPDX-License-Identifier: Apache-2.0
// Bodies of optim/concepts.hpp.
#ifndef KDLIB_OPTIM_CONCEPTS_INL_HPP
#define KDLIB_OPTIM_CONCEPTS_INL_HPP

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Checks the multipliers against the parameters (nothing given means 1 for all) and leaves out what is not trainable.
template <class T, class D>
void keep_trainable(const char* name, std::vector<Parameter<T, D>*>& parameters, std::vector<double>& rates) {
  if (rates.empty()) rates.assign(parameters.size(), 1.0);
  require<ShapeError>(rates.size() == parameters.size(), "[", name, "] ", rates.size(), " rate multipliers for ",
                      parameters.size(), " parameters");
  std::size_t kept = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i]->trainable) continue;
    parameters[kept] = parameters[i];
    rates[kept++] = rates[i];
  }
  require<ConfigError>(kept > 0 || parameters.empty(), "[", name, "] none of the ", parameters.size(),
                       " parameters is trainable: mark some (Decoder::set_trainable, add_lora) before state() is made");
  parameters.resize(kept);
  rates.resize(kept);
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
