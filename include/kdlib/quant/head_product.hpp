// SPDX-License-Identifier: Apache-2.0
// Products with the matrix behind the logits, dense or packed.
#ifndef KDLIB_QUANT_HEAD_PRODUCT_HPP
#define KDLIB_QUANT_HEAD_PRODUCT_HPP

#include "kdlib/backend/concepts.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/quant/packed_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Packed heads need a kernel that scales; BackendError where the device has none yet.
template <class T, class D>
void scale_product(T alpha, std::int64_t n, T* x) {
  if constexpr (requires { Kernels<D, T>::scale(n, alpha, x); }) {
    if (alpha != T(1.0f)) Kernels<D, T>::scale(n, alpha, x);
  } else {
    fail<BackendError>("[head] packed heads are not built for ", D::name, " yet; load the model with decoded weights");
  }
}

/// z[n, columns] = alpha * hidden[n, H] W[0, columns)^T.
template <class T, class D>
void multiply_head(const HeadView<T, D>& head, std::int64_t n, const T* hidden, std::int64_t columns, T alpha, T* z) {
  const std::int64_t width = head.weight[1];
  if (head.packed == nullptr)
    return Kernels<D, T>::gemm(false, true, n, columns, width, alpha, hidden, width, head.weight.data(), width, T(0.0f),
                               z, columns);
  head.packed->multiply(0, columns, n, hidden, T(0.0f), z, columns);
  scale_product<T, D>(alpha, n * columns, z);
}

/// hidden_gradient[n, H] = alpha * gradient[n, columns] W[0, columns).
template <class T, class D>
void multiply_head_back(const HeadView<T, D>& head, std::int64_t n, const T* gradient, std::int64_t columns, T alpha,
                        T* hidden_gradient) {
  const std::int64_t width = head.weight[1];
  if (head.packed == nullptr)
    return Kernels<D, T>::gemm(false, false, n, width, columns, alpha, gradient, columns, head.weight.data(), width,
                               T(0.0f), hidden_gradient, width);
  head.packed->multiply_back(0, columns, n, gradient, columns, T(0.0f), hidden_gradient);
  scale_product<T, D>(alpha, n * width, hidden_gradient);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
