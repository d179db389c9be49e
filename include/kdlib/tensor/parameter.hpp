// SPDX-License-Identifier: Apache-2.0
// A named tensor that a trainer may change, with its gradient.
#ifndef KDLIB_TENSOR_PARAMETER_HPP
#define KDLIB_TENSOR_PARAMETER_HPP

#include <string>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// The tensor itself, or where T has 16 bits a copy in float.
template <class T, class D>
Tensor<gradient_t<T>, D> widened(const Tensor<T, D>& tensor) {
  if constexpr (is_sixteen_bit<T>) {
    Tensor<gradient_t<T>, D> copy(tensor.shape());
    Kernels<D, T>::widen(tensor.count(), tensor.data(), copy.data());
    return copy;
  } else {
    return tensor;
  }
}

/// `gradient` has the shape of `value` once it was asked for; backward passes add to it.
///
/// A trained parameter of 16 bits has a master in float: optimisers change it and round it into `value`, so that steps
/// below the rounding of T add up. Files hold the master. Whoever writes `value` itself calls drop_master();
/// values_to_write() and values_changed() keep both.
template <class T, class D>
struct Parameter {
  std::string name;  // Hugging Face name, e.g. model.layers.0.self_attn.q_proj.weight
  Tensor<T, D> value;
  Tensor<gradient_t<T>, D> gradient;  // empty until gradient_view() is called
  bool trainable = false;
  bool decays = true;                 // weight decay applies (tensors of two or more dimensions)
  Tensor<gradient_t<T>, D> master{};  // of 16-bit T once it is trained, else empty; value is its rounding

  /// The gradient, made of zeros on first use.
  View<gradient_t<T>, D> gradient_view() {
    if (!gradient) gradient = Tensor<gradient_t<T>, D>::zeros(value.shape());
    return gradient.view();
  }
  void zero_gradient() {
    if (gradient) gradient.fill_zero();
  }

  /// Gives a 16-bit parameter its master, equal to the value, unless it has one.
  void make_master() {
    if constexpr (is_sixteen_bit<T>)
      if (!master) master = widened(value);
  }
  /// The value alone counts from here on.
  void drop_master() { master.reset(); }
  /// What is trained, for reading: the master or the value; of a 16-bit parameter without master a copy in float.
  Tensor<gradient_t<T>, D> trained_values() const {
    if constexpr (is_sixteen_bit<T>)
      if (master) return master;
    return widened(value);
  }
  /// The memory to write values into that are trained next; follow with values_changed(). A 16-bit parameter gets a
  /// master, whose elements may be uninitialised.
  Tensor<gradient_t<T>, D> values_to_write() {
    if constexpr (is_sixteen_bit<T>) {
      if (!master) master = Tensor<gradient_t<T>, D>(value.shape());
      return master;
    } else {
      return value;
    }
  }
  /// Rounds the master, where there is one, into the value.
  void values_changed() {
    if constexpr (is_sixteen_bit<T>)
      if (master) Kernels<D, T>::narrow(value.count(), master.data(), value.data());
  }
};

KDLIB_NAMESPACE_END

#endif
