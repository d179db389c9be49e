// SPDX-License-Identifier: Apache-2.0
// Kernels of mixtures of experts of kdlib::cuda.
#include "kdlib/backend/cuda/experts_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template struct CudaExperts<float>;
template struct CudaExperts<bf16>;

}  // namespace detail
KDLIB_NAMESPACE_END
