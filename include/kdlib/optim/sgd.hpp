// SPDX-License-Identifier: Apache-2.0
// Plain gradient descent. It is the smallest optimizer, and it serves tests of gradients, whose size AdamW hides.
#ifndef KDLIB_OPTIM_SGD_HPP
#define KDLIB_OPTIM_SGD_HPP

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// w <- w - rate * gradient_scale * g. It has no momentum and no decay; its only state is the number of steps.
struct Sgd {
  template <class T, class D>
  class State;

  /// Makes the state for those of the parameters that are trainable. Throws ConfigError if none of them is.
  template <class T, class D>
  State<T, D> state(std::vector<Parameter<T, D>*> parameters, std::vector<double> rates = {}) const;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    static_cast<void>(self), static_cast<void>(f);
  }
};

/// The number of steps so far.
template <class T, class D>
class Sgd::State {
 public:
  State(std::vector<Parameter<T, D>*> parameters, std::vector<double> rates);

  /// Makes one update. Every gradient is multiplied by `gradient_scale`.
  void step(double rate, double gradient_scale = 1);
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  std::vector<std::pair<std::string, Tensor<T, D>>> tensors() const { return {}; }

 private:
  std::vector<Parameter<T, D>*> parameters_;
  std::vector<double> rates_;
  std::int64_t steps_ = 0;
};

KDLIB_NAMESPACE_END

#include "kdlib/optim/sgd_inl.hpp"

#endif
