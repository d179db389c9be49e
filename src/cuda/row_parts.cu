// SPDX-License-Identifier: Apache-2.0
// The small kernels that head_loss needs beside products and the row engine: gathering rows, bias and softcap of a
// head.
#include "kdlib/backend/cuda/each_inl.hpp"
#include "kdlib/backend/cuda/row_parts_inl.hpp"
#include "kdlib/backend/cuda/rows.cuh"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
void CudaRowCopies<T>::gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width,
                                   T* out) {
  for_each_element(GatherRow<T>{x, rows, width, out}, count * width);
}
template <class T>
void CudaRowCopies<T>::scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width,
                                        T* y) {
  for_each_element(ScatterAddRow<T>{x, rows, width, y}, count * width);
}

template struct CudaRowCopies<float>;
template struct CudaRowCopies<bf16>;

}  // namespace detail

template <class T>
void RowKernels<Cuda, T>::modify_logits(const T* bias, T scale, float softcap, std::int64_t rows, std::int64_t columns,
                                        T* z) {
  using C = accumulate_t<T>;
  if (bias == nullptr && !(softcap > 0)) return;
  detail::for_each_element(detail::ModifyLogit<T>{bias, static_cast<C>(scale), static_cast<C>(softcap), columns, z},
                           rows * columns);
}
template <class T>
void RowKernels<Cuda, T>::softcap_backward(float softcap, std::int64_t rows, std::int64_t columns, const T* z,
                                           T* gradient) {
  using C = accumulate_t<T>;
  detail::for_each_element(detail::SoftcapBackward<T>{1 / static_cast<C>(softcap), z, gradient}, rows * columns);
}

template <class T>
void RowKernels<Cuda, T>::check_values(const RowResult* results, std::int64_t rows, GradientFactor* factor) {
  detail::for_each_element(detail::CheckValue{results, factor}, rows);
}

template void RowKernels<Cuda, float>::check_values(const RowResult*, std::int64_t, GradientFactor*);
template void RowKernels<Cuda, bf16>::check_values(const RowResult*, std::int64_t, GradientFactor*);
template void RowKernels<Cuda, float>::modify_logits(const float*, float, float, std::int64_t, std::int64_t, float*);
template void RowKernels<Cuda, bf16>::modify_logits(const bf16*, bf16, float, std::int64_t, std::int64_t, bf16*);
template void RowKernels<Cuda, float>::softcap_backward(float, std::int64_t, std::int64_t, const float*, float*);
template void RowKernels<Cuda, bf16>::softcap_backward(float, std::int64_t, std::int64_t, const bf16*, bf16*);

KDLIB_NAMESPACE_END
