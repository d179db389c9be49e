// SPDX-License-Identifier: Apache-2.0
// Body of host_tensors.hpp that does not depend on a device.
#ifndef KDLIB_TRAIN_FIND_TENSOR_INL_HPP
#define KDLIB_TRAIN_FIND_TENSOR_INL_HPP

#include "kdlib/train/host_tensors.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC const HostTensor* find_tensor(const std::vector<HostTensor>& tensors, const std::string& name) {
  for (const HostTensor& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

KDLIB_NAMESPACE_END

#endif
