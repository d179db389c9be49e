// SPDX-License-Identifier: Apache-2.0
// Attention kernels of kdlib::cuda.
#include "kdlib/backend/cuda/attention_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template struct CudaAttention<float>;
template struct CudaAttention<bf16>;

}  // namespace detail
KDLIB_NAMESPACE_END
