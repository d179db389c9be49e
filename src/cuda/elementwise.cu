// SPDX-License-Identifier: Apache-2.0
// Elementwise and summing kernels of kdlib::cuda.
#include "kdlib/backend/cuda/elementwise_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

bool has_device_kernels() { return can_run<EachPackKernel<pack_width<float>, AddElements<float>>>(); }

template struct CudaElementwise<float>;
template struct CudaElementwise<bf16>;
template void CudaMixed<bf16>::widen(std::int64_t, const bf16*, float*);
template void CudaMixed<bf16>::narrow(std::int64_t, const float*, bf16*);

}  // namespace detail
KDLIB_NAMESPACE_END
