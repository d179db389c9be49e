// SPDX-License-Identifier: Apache-2.0
// Tensors between a device and the host bytes that a checkpoint keeps.
#ifndef KDLIB_TRAIN_HOST_TENSORS_HPP
#define KDLIB_TRAIN_HOST_TENSORS_HPP

#include <string>
#include <vector>

#include "kdlib/tensor/parameter.hpp"
#include "kdlib/train/state.hpp"

KDLIB_NAMESPACE_BEGIN

/// The tensor's bytes: shared on the host, copied from another device.
template <class T, class D>
HostTensor to_host_tensor(std::string name, const Tensor<T, D>& tensor);

/// What is trained of a parameter: the master where there is one, else the value.
template <class T, class D>
HostTensor to_host_tensor(const Parameter<T, D>& parameter);

/// The tensor of this name, or nullptr.
const HostTensor* find_tensor(const std::vector<HostTensor>& tensors, const std::string& name);

/// ConfigError, naming the tensor, where type or shape differ.
template <class T, class D>
void check_host_tensor(const HostTensor& from, const Tensor<T, D>& to);

/// Overwrites the tensor's elements. Errors as check_host_tensor.
template <class T, class D>
void from_host_tensor(const HostTensor& from, Tensor<T, D>& to);

/// What load_parameters would refuse, without touching the parameters.
template <class T, class D>
void check_parameters(const std::vector<HostTensor>& from, const std::vector<Parameter<T, D>*>& to);

/// Overwrites the parameters of these names, and their masters where the tensors are of float and the parameters of 16
/// bits: the way to load Directory::best() into a model. ConfigError where the
/// model has no parameter of a name, or another shape.
template <class T, class D>
void load_parameters(const std::vector<HostTensor>& from, const std::vector<Parameter<T, D>*>& to);

KDLIB_NAMESPACE_END

#include "kdlib/train/host_tensors_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/find_tensor_inl.hpp"
#endif

#endif
