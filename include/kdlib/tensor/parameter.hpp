// SPDX-License-Identifier: Apache-2.0
// A named tensor that a trainer may change, with its gradient.
#ifndef KDLIB_TENSOR_PARAMETER_HPP
#define KDLIB_TENSOR_PARAMETER_HPP

#include <string>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// `gradient` has the shape of `value` once it was asked for; backward passes add to it.
template <class T, class D>
struct Parameter {
  std::string name;  // Hugging Face name, e.g. model.layers.0.self_attn.q_proj.weight
  Tensor<T, D> value;
  Tensor<T, D> gradient;  // empty until gradient_view() is called
  bool trainable = false;
  bool decays = true;  // weight decay applies (tensors of two or more dimensions)

  /// The gradient, made of zeros on first use.
  View<T, D> gradient_view() {
    if (!gradient) gradient = Tensor<T, D>::zeros(value.shape());
    return gradient.view();
  }
  void zero_gradient() {
    if (gradient) gradient.fill_zero();
  }
};

KDLIB_NAMESPACE_END

#endif
