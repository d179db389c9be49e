// SPDX-License-Identifier: Apache-2.0
// Kernels of packed weights of kdlib::cuda.
#include "kdlib/backend/cuda/coded_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template struct CudaPacked<float>;
template struct CudaPacked<bf16>;

}  // namespace detail
KDLIB_NAMESPACE_END
