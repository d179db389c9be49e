// SPDX-License-Identifier: Apache-2.0
// Elementwise and summing kernels of kdlib::cuda.
#include "kdlib/backend/cuda/elementwise_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template struct CudaElementwise<float>;
template struct CudaElementwise<bf16>;

}  // namespace detail
KDLIB_NAMESPACE_END
