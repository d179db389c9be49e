// SPDX-License-Identifier: Apache-2.0
// Bodies of host_tensors.hpp.
#ifndef KDLIB_TRAIN_HOST_TENSORS_INL_HPP
#define KDLIB_TRAIN_HOST_TENSORS_INL_HPP

#include <type_traits>

#include "kdlib/train/host_tensors.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T, class D>
HostTensor to_host_tensor(std::string name, const Tensor<T, D>& tensor) {
  HostTensor out;
  out.name = std::move(name);
  out.dtype = dtype_of<T>();
  out.shape = tensor.shape();
  out.bytes = static_cast<std::size_t>(tensor.bytes());
  if constexpr (std::is_same_v<D, Cpu>) {
    const auto owner = std::make_shared<Tensor<T, D>>(tensor);
    out.data = std::shared_ptr<const void>(owner, owner->data());
  } else {
    const auto owner = std::make_shared<Buffer<T, Cpu>>(tensor.count());
    Memory<D>::to_host(owner->data(), tensor.data(), out.bytes);
    out.data = std::shared_ptr<const void>(owner, owner->data());
  }
  return out;
}

template <class T, class D>
HostTensor to_host_tensor(const Parameter<T, D>& parameter) {
  if constexpr (is_sixteen_bit<T>)
    if (parameter.master) return to_host_tensor(parameter.name, parameter.master);
  return to_host_tensor(parameter.name, parameter.value);
}

template <class T, class D>
void check_host_tensor(const HostTensor& from, const Tensor<T, D>& to) {
  require<ConfigError>(from.dtype == dtype_of<T>() && from.shape == to.shape(), "[resume] ", from.name, " is ",
                       from.shape, " in the checkpoint and ", to.shape(),
                       " here (or has another scalar type): the checkpoint belongs to another model");
}

template <class T, class D>
void from_host_tensor(const HostTensor& from, Tensor<T, D>& to) {
  check_host_tensor(from, to);
  Memory<D>::from_host(to.data(), from.data.get(), from.bytes);
}

namespace detail {
template <class T, class D>
Parameter<T, D>& parameter_of(const HostTensor& tensor, const std::vector<Parameter<T, D>*>& all) {
  for (Parameter<T, D>* p : all)
    if (p->name == tensor.name) return *p;
  fail<ConfigError>("[resume] the model has no parameter ", tensor.name,
                    ": the checkpoint belongs to another model or adapter");
}
/// The tensor holds the parameter's master.
template <class T, class D>
bool is_master(const HostTensor& tensor, const Parameter<T, D>& p) {
  return is_sixteen_bit<T> && tensor.dtype == dtype_of<gradient_t<T>>() && tensor.shape == p.value.shape();
}
}  // namespace detail

template <class T, class D>
void check_parameters(const std::vector<HostTensor>& from, const std::vector<Parameter<T, D>*>& to) {
  for (const HostTensor& tensor : from) {
    const Parameter<T, D>& p = detail::parameter_of(tensor, to);
    if (!detail::is_master(tensor, p)) check_host_tensor(tensor, p.value);
  }
}

template <class T, class D>
void load_parameters(const std::vector<HostTensor>& from, const std::vector<Parameter<T, D>*>& to) {
  for (const HostTensor& tensor : from) {
    Parameter<T, D>& p = detail::parameter_of(tensor, to);
    if (detail::is_master(tensor, p)) {
      Memory<D>::from_host(p.values_to_write().data(), tensor.data.get(), tensor.bytes);
      p.values_changed();
    } else {
      from_host_tensor(tensor, p.value);
      p.drop_master();
    }
  }
}

KDLIB_NAMESPACE_END

#endif
