// SPDX-License-Identifier: Apache-2.0
// kdlib::cuda without cuDNN: attention is by its own kernels.
#include "kdlib/backend/cuda/library_attention.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

CudnnFacts cudnn_facts() { return {}; }
void run_cudnn_attention(const CudnnAttention&) {
  fail<BackendError>("[cuda] kdlib::cuda was compiled without cuDNN; configure with KDLIB_CUDNN=ON");
}

}  // namespace detail
KDLIB_NAMESPACE_END
