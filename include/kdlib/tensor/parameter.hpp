// SPDX-License-Identifier: Apache-2.0
// A named tensor that a trainer may change, and its gradient.
#ifndef KDLIB_TENSOR_PARAMETER_HPP
#define KDLIB_TENSOR_PARAMETER_HPP

#include <string>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the tensor itself, or for a 16-bit T a copy in float.
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

/// A tensor with a name. `gradient` has the shape of `value` after gradient_view() was called once; backward passes add
/// to it.
///
/// A trained parameter of 16 bits has a master copy in float. Optimisers change the master and round it into `value`,
/// so steps that are smaller than the rounding of T add up. Files hold the master. Code that writes `value` itself must
/// call drop_master(); values_to_write() and values_changed() keep both in step.
template <class T, class D>
struct Parameter {
  std::string name;  // Hugging Face name, e.g. model.layers.0.self_attn.q_proj.weight
  Tensor<T, D> value;
  Tensor<gradient_t<T>, D> gradient;  // empty until gradient_view() is called
  bool trainable = false;
  bool decays = true;                 // weight decay applies (to tensors of two or more dimensions)
  Tensor<gradient_t<T>, D> master{};  // of a trained 16-bit parameter, else empty; `value` is its rounding

  /// Returns the gradient. The first call makes it, filled with zeros.
  View<gradient_t<T>, D> gradient_view() {
    if (!gradient) gradient = Tensor<gradient_t<T>, D>::zeros(value.shape());
    return gradient.view();
  }
  void zero_gradient() {
    if (gradient) gradient.fill_zero();
  }

  /// Gives a 16-bit parameter a master equal to the value, unless it has one already.
  void make_master() {
    if constexpr (is_sixteen_bit<T>)
      if (!master) master = widened(value);
  }
  /// Drops the master: from now on only `value` counts.
  void drop_master() { master.reset(); }
  /// Returns the trained values for reading: the master or the value; for a 16-bit parameter without a master a copy in
  /// float.
  Tensor<gradient_t<T>, D> trained_values() const {
    if constexpr (is_sixteen_bit<T>)
      if (master) return master;
    return widened(value);
  }
  /// Returns the memory into which new trained values are written; call values_changed() afterwards. A 16-bit parameter
  /// gets a master, whose elements may be uninitialised.
  Tensor<gradient_t<T>, D> values_to_write() {
    if constexpr (is_sixteen_bit<T>) {
      if (!master) master = Tensor<gradient_t<T>, D>(value.shape());
      return master;
    } else {
      return value;
    }
  }
  /// Rounds the master, if there is one, into the value.
  void values_changed() {
    if constexpr (is_sixteen_bit<T>)
      if (master) Kernels<D, T>::narrow(value.count(), master.data(), value.data());
  }
};

KDLIB_NAMESPACE_END

#endif
