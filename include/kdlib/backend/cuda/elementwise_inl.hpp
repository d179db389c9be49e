// SPDX-License-Identifier: Apache-2.0
// Launches of the elementwise and summing kernels.
#ifndef KDLIB_BACKEND_CUDA_ELEMENTWISE_INL_HPP
#define KDLIB_BACKEND_CUDA_ELEMENTWISE_INL_HPP

#include <cmath>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/elementwise_body_inl.hpp"
#include "kdlib/backend/cuda/reductions_body_inl.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
void CudaMixed<T>::widen(std::int64_t n, const T* x, C* y) {
  for_each_pack<C>(ConvertElements<T, C>{x, y}, n, aligned(x, y));  // packs of the wider type: 16 bytes
}
template <class T>
void CudaMixed<T>::narrow(std::int64_t n, const C* x, T* y) {
  for_each_pack<C>(ConvertElements<C, T>{x, y}, n, aligned(x, y));
}

template <class T>
void CudaElementwise<T>::embedding(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* table,
                                   T* out) {
  for_each_pack<T>(EmbeddingElements<T>{ids, table, out, width}, n * width, in_packs<T>(width, table, out));
}
template <class T>
void CudaElementwise<T>::embedding_backward(const std::int32_t* ids, std::int64_t n, std::int64_t width,
                                            const T* gradient, C* table_gradient) {
  if (n <= 0 || width <= 0) return;
  launch(EmbeddingGradient<T>{ids, n, width, gradient, table_gradient}, {.blocks = n, .shared_bytes = reduce_bytes});
}

template <class T>
void CudaElementwise<T>::rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon,
                                  T* y, C* inverse_rms) {
  if (rows <= 0) return;
  const C e = static_cast<C>(epsilon);
  if (width <= narrow_width) for_each_warp(RmsNormRows<T, true>{x, weight, rows, width, e, y, inverse_rms}, rows);
  else
    launch(RmsNormRows<T, false>{x, weight, rows, width, e, y, inverse_rms},
           {.blocks = rows, .shared_bytes = reduce_bytes});
}

/// Column sums of at most 264 chunks of rows, whose number depends on the rows alone.
template <class T>
void add_columns(const ColumnTerm<T>& term, std::int64_t rows, accumulate_t<T>* sums) {
  using C = accumulate_t<T>;
  if (rows <= 0 || term.width <= 0) return;
  constexpr std::int64_t most_chunks = 264, least_rows = 32;
  std::int64_t chunks = (rows + least_rows - 1) / least_rows;
  if (chunks > most_chunks) chunks = most_chunks;
  const std::int64_t chunk_rows = (rows + chunks - 1) / chunks;
  const Buffer<C, Cuda> partial(chunks * term.width);
  launch(ColumnPartials<T>{term, rows, chunk_rows, partial.data()},
         {.blocks = (term.width + 255) / 256, .blocks_y = chunks});
  for_each_element(ColumnTotals<C>{chunks, term.width, partial.data(), sums}, term.width);
}

template <class T>
void CudaElementwise<T>::rms_norm_backward(const T* x, const T* weight, const C* inverse_rms, const T* gradient,
                                           std::int64_t rows, std::int64_t width, T* x_gradient, bool accumulate,
                                           C* weight_gradient) {
  if (rows <= 0) return;
  if (weight_gradient != nullptr) add_columns(ColumnTerm<T>{x, gradient, inverse_rms, width}, rows, weight_gradient);
  if (x_gradient == nullptr) return;
  if (width <= narrow_width)
    for_each_warp(RmsNormGradient<T, true>{x, weight, inverse_rms, gradient, rows, width, x_gradient, accumulate},
                  rows);
  else
    launch(RmsNormGradient<T, false>{x, weight, inverse_rms, gradient, rows, width, x_gradient, accumulate},
           {.blocks = rows, .shared_bytes = reduce_bytes});
}

template <class T>
void CudaElementwise<T>::rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads,
                              std::int64_t head_size, const C* cosine, const C* sine, bool inverse) {
  const std::int64_t half = head_size / 2;
  for_each_element(RopePairs<T>{x, positions, heads, half, cosine, sine, inverse ? C(-1) : C(1)}, rows * heads * half);
}

template <class T>
void CudaElementwise<T>::swiglu(const T* gate, const T* up, std::int64_t n, T* y) {
  for_each_pack<T>(GateElements<T, SwigluGate>{gate, up, y}, n, aligned(gate, up, y));
}
template <class T>
void CudaElementwise<T>::swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n,
                                         T* gate_gradient, T* up_gradient) {
  for_each_pack<T>(GateGradient<T, SwigluGate>{gate, up, gradient, gate_gradient, up_gradient}, n,
                   aligned(gate, up, gradient, gate_gradient, up_gradient));
}

template <class T>
void CudaElementwise<T>::geglu(const T* gate, const T* up, std::int64_t n, T* y) {
  for_each_pack<T>(GateElements<T, GegluGate>{gate, up, y}, n, aligned(gate, up, y));
}
template <class T>
void CudaElementwise<T>::geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                                        T* up_gradient) {
  for_each_pack<T>(GateGradient<T, GegluGate>{gate, up, gradient, gate_gradient, up_gradient}, n,
                   aligned(gate, up, gradient, gate_gradient, up_gradient));
}

template <class T>
void CudaElementwise<T>::add(const T* a, const T* b, std::int64_t n, T* y) {
  for_each_pack<T>(AddElements<T>{a, b, y}, n, aligned(a, b, y));
}
template <class T>
void CudaElementwise<T>::axpy(std::int64_t n, C alpha, const T* x, T* y) {
  for_each_pack<T>(AxpyElements<T>{alpha, x, y}, n, aligned(x, y));
}
template <class T>
void CudaElementwise<T>::scale(std::int64_t n, C alpha, T* x) {
  for_each_pack<T>(ScaleElements<T>{alpha, x}, n, aligned(x));
}
template <class T>
void CudaElementwise<T>::fill_normal(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x) {
  for_each_element(NormalElements<T>{Rng(seed, RngPurpose::initialise, 0, row), deviation, x}, n);
}
template <class T>
void CudaElementwise<T>::add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y) {
  for_each_pack<T>(AddBiasElements<T>{bias, width, y}, rows * width, in_packs<T>(width, bias, y));
}
template <class T>
void CudaElementwise<T>::add_column_sums(const T* x, std::int64_t rows, std::int64_t width, C* sums) {
  add_columns(ColumnTerm<T>{x, nullptr, nullptr, width}, rows, sums);
}
template <class T>
void CudaElementwise<T>::scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x) {
  for_each_pack<T>(ScaleRowElements<T>{factors, width, x}, rows * width, in_packs<T>(width, x));
}
template <class T>
void CudaElementwise<T>::add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y) {
  for_each_pack<T>(AddGatedElements<T>{gate, x, width, y}, n * width, in_packs<T>(width, x, y));
}
template <class T>
void CudaElementwise<T>::add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n,
                                            std::int64_t width, T* gate_gradient, T* x_gradient) {
  for_each_warp(AddGatedGradient<T>{gate, x, y_gradient, n, width, gate_gradient, x_gradient}, n);
}

/// Queues the sum of n squares into total[0].
template <class T>
void queue_sum_squares(const T* x, std::int64_t n, double* total) {
  const std::int64_t chunks = (n + SquarePartials<T>::chunk - 1) / SquarePartials<T>::chunk;
  const Buffer<double, Cuda> partial(chunks);
  launch(SquarePartials<T>{x, n, partial.data()}, {.blocks = chunks, .shared_bytes = reduce_bytes});
  launch(SquareTotal{chunks, partial.data(), total}, {.shared_bytes = reduce_bytes});
}

template <class T>
double CudaElementwise<T>::sum_squares(const T* x, std::int64_t n) {
  double out = 0;
  const Buffer<double, Cuda> total(1);
  sum_squares_each({{x, n}}, total.data());
  Memory<Cuda>::to_host(&out, total.data(), sizeof(double));
  return out;
}

template <class T>
void CudaElementwise<T>::sum_squares_each(const std::vector<std::pair<const T*, std::int64_t>>& arrays, double* out) {
  if (arrays.empty()) return;
  Memory<Cuda>::fill_zero(out, arrays.size() * sizeof(double));
  for (std::size_t i = 0; i < arrays.size(); ++i)
    if (const auto& [x, n] = arrays[i]; n > 0) queue_sum_squares(x, n, out + i);
}

template <class T>
void CudaElementwise<T>::adamw(const AdamWStep& step, std::int64_t n, const C* gradient, C* first, C* second,
                               T* value) {
  const AdamWElements<T> kernel{static_cast<C>(step.beta1),
                                static_cast<C>(step.beta2),
                                static_cast<C>(1.0 - step.beta1),
                                static_cast<C>(1.0 - step.beta2),
                                static_cast<C>(step.gradient_scale),
                                static_cast<C>(1.0 - step.rate * step.weight_decay),
                                static_cast<C>(step.rate / step.correction1),
                                static_cast<C>(1.0 / std::sqrt(step.correction2)),
                                static_cast<C>(step.epsilon),
                                gradient,
                                first,
                                second,
                                value,
                                step.there};
  for_each_element(kernel, n);
}
template <class T>
void CudaElementwise<T>::gradient_factor(std::int64_t count, const double* sums, double limit, GradientFactor* out) {
  for_each_element(FormGradientFactor{count, sums, limit, out}, 1);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
