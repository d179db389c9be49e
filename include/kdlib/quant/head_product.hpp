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

/// Multiplies x by alpha. Packed heads need this kernel; throws BackendError if the device does not have it yet.
template <class T, class D>
void scale_product(accumulate_t<T> alpha, std::int64_t n, T* x) {
  if constexpr (requires { Kernels<D, T>::scale(n, alpha, x); }) {
    if (alpha != 1) Kernels<D, T>::scale(n, alpha, x);
  } else {
    fail<BackendError>("[head] packed heads are not built for ", D::name, " yet; load the model with decoded weights");
  }
}

/// Returns the first `columns` rows of the head if they are values in memory, else null.
template <class T, class D>
const T* head_values(const HeadView<T, D>& head, std::int64_t columns) {
  return head.packed == nullptr ? head.weight.data() : head.packed->values(0, columns);
}

/// Computes z[n, columns] = alpha * hidden[n, H] W[0, columns)^T.
template <class T, class D>
void multiply_head(const HeadView<T, D>& head, std::int64_t n, const T* hidden, std::int64_t columns,
                   accumulate_t<T> alpha, logit_t<D, T>* z) {
  const std::int64_t width = head.weight[1];
  if (const T* w = head_values(head, columns))
    return Kernels<D, T>::gemm(false, true, n, columns, width, alpha, hidden, width, w, width, 0, z, columns);
  if constexpr (std::is_same_v<logit_t<D, T>, T>) {
    head.packed->multiply(0, columns, n, hidden, 0, z, columns);
  } else {
    const Buffer<T, D> product(n * columns);
    head.packed->multiply(0, columns, n, hidden, 0, product.data(), columns);
    Kernels<D, T>::widen(n * columns, product.data(), z);
  }
  scale_product<logit_t<D, T>, D>(alpha, n * columns, z);
}

/// Computes hidden_gradient[n, H] = alpha * gradient[n, columns] W[0, columns).
template <class T, class D>
void multiply_head_back(const HeadView<T, D>& head, std::int64_t n, const logit_t<D, T>* gradient, std::int64_t columns,
                        accumulate_t<T> alpha, T* hidden_gradient) {
  const std::int64_t width = head.weight[1];
  if (const T* w = head_values(head, columns))
    return Kernels<D, T>::gemm(false, false, n, width, columns, alpha, gradient, columns, w, width, 0, hidden_gradient,
                               width);
  if constexpr (std::is_same_v<logit_t<D, T>, T>) {
    head.packed->multiply_back(0, columns, n, gradient, columns, 0, hidden_gradient);
  } else {
    const Buffer<T, D> rounded(n * columns);
    Kernels<D, T>::narrow(n * columns, gradient, rounded.data());
    head.packed->multiply_back(0, columns, n, rounded.data(), columns, 0, hidden_gradient);
  }
  scale_product<T, D>(alpha, n * width, hidden_gradient);
}

/// The bias of a head, converted to the type of logits.
template <class T, class D>
class HeadBias {
  using L = logit_t<D, T>;

 public:
  explicit HeadBias(const HeadView<T, D>& head) : view_(head.bias) {
    if constexpr (!std::is_same_v<L, T>) {
      if (view_.empty()) return;
      widened_ = Buffer<L, D>(view_.count());
      Kernels<D, T>::widen(view_.count(), view_.data(), widened_.data());
    }
  }
  const L* data() const {
    if (view_.empty()) return nullptr;
    if constexpr (std::is_same_v<L, T>) return view_.data();
    else return widened_.data();
  }

 private:
  View<const T, D> view_;
  Buffer<L, D> widened_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
