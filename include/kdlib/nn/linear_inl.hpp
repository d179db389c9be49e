// SPDX-License-Identifier: Apache-2.0
// Bodies of linear.hpp.
#ifndef KDLIB_NN_LINEAR_INL_HPP
#define KDLIB_NN_LINEAR_INL_HPP

#include "kdlib/nn/linear.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A parameter with a shape and no memory: whoever fills it takes that first (allocate_parameters), after checking its
/// source.
template <class D, class T>
std::unique_ptr<Parameter<T, D>> make_parameter(std::string name, Shape shape) {
  auto p = std::make_unique<Parameter<T, D>>();
  p->name = std::move(name);
  p->value = Tensor<T, D>::borrow(nullptr, shape);
  p->decays = shape.rank() > 1;
  return p;
}

/// Another parameter over the same elements, frozen.
template <class D, class T>
std::unique_ptr<Parameter<T, D>> share_parameter(const std::unique_ptr<Parameter<T, D>>& p) {
  if (p == nullptr) return nullptr;
  auto copy = std::make_unique<Parameter<T, D>>();
  copy->name = p->name;
  copy->value = p->value;
  copy->decays = p->decays;
  return copy;
}

}  // namespace detail

template <class D, class T>
Linear<D, T>::Linear(std::string path_, std::int64_t in_, std::int64_t out_, bool has_bias)
    : path(std::move(path_)), in(in_), out(out_) {
  weight = detail::make_parameter<D, T>(path + ".weight", Shape{out, in});
  if (has_bias) bias = detail::make_parameter<D, T>(path + ".bias", Shape{out});
}

template <class D, class T>
LinearOperand<T, D> Linear<D, T>::operand(bool adapter) const {
  LinearOperand<T, D> o;
  o.bias = bias.get();
  if (adapter_in_codes() && !adapter) {
    o.weight = weight.get();
    return o;
  }
  o.weight = packed == nullptr ? weight.get() : nullptr;
  o.packed = packed.get();
  if (quantized != nullptr) {
    o.packed_gradient = quantized->gradient_sink();
    o.lora_in_codes = adapter_in_codes();
    if (o.packed_gradient != nullptr && o.lora_in_codes) return o;  // it gives A and B their gradient
  }
  if (adapter && lora != nullptr && !merged()) {
    o.lora_a = &lora->a;
    o.lora_b = &lora->b;
    o.lora_scale = static_cast<T>(lora->scale);
  }
  return o;
}

template <class D, class T>
void Linear<D, T>::append_parameters(std::vector<Parameter<T, D>*>& list) const {
  if (weight != nullptr) list.push_back(weight.get());
  if (bias != nullptr) list.push_back(bias.get());
  if (lora != nullptr) list.insert(list.end(), {&lora->a, &lora->b});
  if (quantized != nullptr) quantized->append_parameters(list);
}

template <class D, class T>
Linear<D, T> Linear<D, T>::share() const {
  Linear copy;
  copy.path = path;
  copy.in = in;
  copy.out = out;
  if (packed == nullptr) copy.weight = detail::share_parameter<D, T>(weight);
  if (merged()) copy.weight->value = before_merge;
  copy.packed = packed;
  copy.bias = detail::share_parameter<D, T>(bias);
  return copy;
}

template <class D, class T>
std::vector<Parameter<T, D>*> parameters_behind_codes(const std::vector<Linear<D, T>*>& linears) {
  std::vector<Parameter<T, D>*> list;
  for (const Linear<D, T>* l : linears) {
    if (l->packed != nullptr && l->weight != nullptr) list.push_back(l->weight.get());
    if (l->quantized != nullptr) l->quantized->append_parameters(list);
  }
  return list;
}

KDLIB_NAMESPACE_END

#endif
