// SPDX-License-Identifier: Apache-2.0
// The kernel of kdlib::cuda that draws tokens.
#include "kdlib/backend/cuda/sampler_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template struct CudaSampler<float>;
template struct CudaSampler<bf16>;

}  // namespace detail
KDLIB_NAMESPACE_END
