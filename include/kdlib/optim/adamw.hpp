// SPDX-License-Identifier: Apache-2.0
// AdamW: Adam with decoupled weight decay.
#ifndef KDLIB_OPTIM_ADAMW_HPP
#define KDLIB_OPTIM_ADAMW_HPP

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// At step t = 1, 2, ... with rate r and gradient g, element by element:
///   w <- w (1 - r * weight_decay)                      only tensors of two or more dimensions whose `decays` is set
///                                                      and that have neither "bias" nor "norm" in their names
///   m <- beta1 m + (1 - beta1) g;   v <- beta2 v + (1 - beta2) g^2
///   w <- w - r / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// Here w is a weight, m the first and v the second moment. Source: Loshchilov and Hutter, "Decoupled weight decay
/// regularization" (arXiv 1711.05101), in the form and order of torch.optim.AdamW. Moments are kept in float (in double
/// for double weights), so that small updates are not lost with bf16 weights.
struct AdamW {
  double beta1 = 0.9;       // [0, 1)
  double beta2 = 0.999;     // [0, 1)
  double epsilon = 1e-8;    // > 0
  double weight_decay = 0;  // >= 0

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"beta1", "", "in [0, 1)", "decay of the first moment"}, self.beta1);
    f(FieldInfo{"beta2", "", "in [0, 1)", "decay of the second moment"}, self.beta2);
    f(FieldInfo{"epsilon", "", "> 0", "added to the root of the second moment"}, self.epsilon);
    f(FieldInfo{"weight_decay", "", ">= 0", "of tensors of two or more dimensions"}, self.weight_decay);
  }

  template <class T, class D>
  class State;

  /// Returns moments of zero for those of the parameters that are trainable (trainable_parameters(model) lists them).
  /// `rates` has one factor of the rate for each parameter (empty: 1 for all). Throws ConfigError if none of the
  /// parameters is trainable or a setting is out of range, ShapeError if `rates` has another length.
  template <class T, class D>
  State<T, D> state(std::vector<Parameter<T, D>*> parameters, std::vector<double> rates = {}) const;
};

/// The moments of every trainable parameter and the number of steps so far.
template <class T, class D>
class AdamW::State {
 public:
  using moment_type = accumulate_t<T>;

  State(const AdamW& settings, std::vector<Parameter<T, D>*> parameters, std::vector<double> rates);

  /// Makes one update at the rate `rate` >= 0. Every gradient is multiplied by `gradient_scale` (the factor of
  /// clipping).
  void step(double rate, double gradient_scale = 1) { update(rate, gradient_scale, nullptr); }
  /// The same with a factor that is on the device. If the factor is not finite, no value and no moment changes.
  void step(double rate, const GradientFactor* there) { update(rate, 1, there); }

  /// Number of step() calls so far. set_steps is for reading a checkpoint.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }

  /// Returns "first_moment.<parameter>" and "second_moment.<parameter>". The tensors share their memory with the state.
  std::vector<std::pair<std::string, Tensor<moment_type, D>>> tensors() const;

 private:
  void update(double rate, double gradient_scale, const GradientFactor* there);

  AdamW settings_;
  std::vector<Parameter<T, D>*> parameters_;
  std::vector<double> rates_;
  std::vector<Tensor<moment_type, D>> first_, second_;
  std::int64_t steps_ = 0;
};

KDLIB_NAMESPACE_END

#include "kdlib/optim/adamw_inl.hpp"

#endif
