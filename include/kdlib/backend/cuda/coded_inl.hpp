// SPDX-License-Identifier: Apache-2.0
// Launches of the kernels of packed weights.
#ifndef KDLIB_BACKEND_CUDA_CODED_INL_HPP
#define KDLIB_BACKEND_CUDA_CODED_INL_HPP

#include <vector>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/coded_body_inl.hpp"
#include "kdlib/backend/cuda/each_inl.hpp"
#include "kdlib/backend/stored_row_inl.hpp"
#include "kdlib/quant/packed_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
void CudaPacked<T>::coded_decode(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* out) {
  for_each_element(DecodeCodes<T>{CodeReader::of(weight), begin, out}, count * weight.columns);
}
template <class T>
void CudaPacked<T>::coded_gather(const CodedRanges& weight, const std::int32_t* ids, std::int64_t n, T* out) {
  for_each_element(GatherCodes<T>{CodeReader::of(weight), ids, out}, n * weight.columns);
}
template <class T>
void CudaPacked<T>::coded_multiply_few(const CodedRanges& weight, std::int64_t m, const T* x, C beta, T* y) {
  if (m > 0) for_each_warp(CodedProduct<T>{CodeReader::of(weight), m, x, beta, y}, weight.rows);
}
template <class T>
void CudaPacked<T>::coded_factor_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count,
                                          const T* gradient, C* scale_gradient, C* zero_gradient) {
  require<ConfigError>(!weight.crossing, "[coded_factor_gradient] groups cross row ends");
  if (count > 0)
    for_each_warp(CodedFactorGradient<T>{CodeReader::of(weight), begin, count, gradient, scale_gradient, zero_gradient},
                  count * weight.row_groups());
}
template <class T>
void CudaPacked<T>::coded_clip_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count,
                                        T* gradient) {
  for_each_element(CodedClipGradient<T>{CodeReader::of(weight), begin, gradient}, count * weight.columns);
}

template <class T>
void CudaPacked<T>::stored_decode(const StoredRanges& weight, std::int64_t begin, std::int64_t count, T* out) {
  std::vector<float> row(static_cast<std::size_t>(weight.columns));
  std::vector<T> host;
  host.reserve(static_cast<std::size_t>(count) * row.size());
  for (std::int64_t r = begin; r < begin + count; ++r) {
    decode_stored_row(weight, r, row.data());
    for (const float x : row) host.push_back(T(x));
  }
  Memory<Cuda>::from_host(out, host.data(), host.size() * sizeof(T));
}
template <class T>
void CudaPacked<T>::stored_multiply(const StoredRanges& weight, std::int64_t begin, std::int64_t count, std::int64_t m,
                                    const T* x, C beta, T* y, std::int64_t ldy) {
  constexpr std::int64_t elements = 1 << 22;
  if (m <= 0 || count <= 0) return;
  const std::int64_t k = weight.columns, most = elements > k ? elements / k : 1, panel = most < count ? most : count;
  const Buffer<T, Cuda> scratch(panel * k);
  for (std::int64_t row = 0; row < count; row += panel) {
    const std::int64_t rows = count - row < panel ? count - row : panel;
    stored_decode(weight, begin + row, rows, scratch.data());
    CudaGemm<T>::gemm(false, true, m, rows, k, C(1), x, k, scratch.data(), k, beta, y + row, ldy);
  }
}

template <class T>
void CudaPacked<T>::expert_multiply_packed(const ExpertRanges& ranges, std::int64_t out, const T* x,
                                           const PackedMatrix<T, Cuda>& weight, const T* bias, T* y) {
  if (ranges.rows <= 0) return;
  const Tensor<T, Cuda> all = weight.decode_all();
  CudaExperts<T>::expert_multiply(ranges, out, weight.columns(), x, all.data(), bias, y);
}
template <class T>
void CudaPacked<T>::expert_multiply_back_packed(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                                const PackedMatrix<T, Cuda>& weight, T* x_gradient) {
  if (ranges.rows <= 0) return;
  const Tensor<T, Cuda> all = weight.decode_all();
  CudaExperts<T>::expert_multiply_back(ranges, out, weight.columns(), y_gradient, all.data(), x_gradient);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
