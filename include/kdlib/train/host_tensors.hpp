// SPDX-License-Identifier: Apache-2.0
// Copies tensors between a device and the bytes on the host that a checkpoint keeps.
#ifndef KDLIB_TRAIN_HOST_TENSORS_HPP
#define KDLIB_TRAIN_HOST_TENSORS_HPP

#include <string>
#include <vector>

#include "kdlib/tensor/parameter.hpp"
#include "kdlib/train/state.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the bytes of a tensor: shared memory for a tensor on the host, a copy for one on another device.
template <class T, class D>
HostTensor to_host_tensor(std::string name, const Tensor<T, D>& tensor);

/// Returns the trained numbers of a parameter: its master copy (a 32-bit copy of a 16-bit parameter) if there is one,
/// else its value.
template <class T, class D>
HostTensor to_host_tensor(const Parameter<T, D>& parameter);

/// Returns the tensor of this name, or nullptr.
const HostTensor* find_tensor(const std::vector<HostTensor>& tensors, const std::string& name);

/// Throws ConfigError, naming the tensor, if type or shape differ.
template <class T, class D>
void check_host_tensor(const HostTensor& from, const Tensor<T, D>& to);

/// Overwrites the elements of `to` with those of `from`. Errors as in check_host_tensor.
template <class T, class D>
void from_host_tensor(const HostTensor& from, Tensor<T, D>& to);

/// Throws what load_parameters would throw, without changing the parameters.
template <class T, class D>
void check_parameters(const std::vector<HostTensor>& from, const std::vector<Parameter<T, D>*>& to);

/// Overwrites the parameters that have the names of the tensors; this is the way to load Directory::best() into a
/// model. If a tensor is of float and its parameter has 16 bits, the tensor becomes the parameter's master copy.
/// ConfigError: the model has no parameter of a name, or its shape differs.
template <class T, class D>
void load_parameters(const std::vector<HostTensor>& from, const std::vector<Parameter<T, D>*>& to);

KDLIB_NAMESPACE_END

#include "kdlib/train/host_tensors_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/find_tensor_inl.hpp"
#endif

#endif
