// SPDX-License-Identifier: Apache-2.0
// Launches of the kernels of mixtures of experts.
#ifndef KDLIB_BACKEND_CUDA_EXPERTS_INL_HPP
#define KDLIB_BACKEND_CUDA_EXPERTS_INL_HPP

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/experts_body_inl.hpp"
#include "kdlib/backend/cuda/reductions_body_inl.hpp"
#include "kdlib/backend/cuda/routing_body_inl.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Tiles of rows that the experts have at most.
inline std::int64_t most_tiles(const ExpertRanges& ranges) { return ranges.rows / attention_tile + ranges.experts; }
inline std::int64_t column_tiles(std::int64_t columns) { return (columns + attention_tile - 1) / attention_tile; }

template <class T>
void CudaExperts<T>::route(const RouterRule& rule, const T* logits, std::int64_t n, std::int32_t* ids, T* weights) {
  for_each_warp(RouteTokens<T>{logits, n, rule.experts, rule.active, rule.over_chosen, true, ids, weights}, n);
}
template <class T>
void CudaExperts<T>::route_again(const RouterRule& rule, const T* logits, std::int64_t n, const std::int32_t* ids,
                                 T* weights) {
  // Without `choose` the ids are not written.
  for_each_warp(RouteTokens<T>{logits, n, rule.experts, rule.active, rule.over_chosen, false,
                               const_cast<std::int32_t*>(ids), weights},
                n);
}
template <class T>
void CudaExperts<T>::route_backward(const RouterRule& rule, const T* logits, const std::int32_t* ids, const T* weights,
                                    const T* weights_gradient, std::int64_t n, T* logits_gradient) {
  for_each_warp(RouteGradient<T>{logits, ids, weights, weights_gradient, n, rule.experts, rule.active, rule.over_chosen,
                                 logits_gradient},
                n);
}

template <class T>
void CudaExperts<T>::take_known(const std::int32_t* given, std::int64_t n, std::int32_t* ids) {
  for_each_element(TakeKnown{given, ids}, n);
}

template <class T>
void CudaExperts<T>::router_sums(const RouterRule& rule, const T* logits, const std::int32_t* ids, std::int64_t n,
                                 double* sums) {
  const std::int64_t width = 2 * rule.experts + 1, chunk = RouterPartials<T>::chunk, chunks = (n + chunk - 1) / chunk;
  const Buffer<double, Cuda> partial(chunks * width);
  if (chunks > 0)
    launch(RouterPartials<T>{logits, ids, n, rule.experts, rule.active, partial.data()},
           {.blocks = chunks, .shared_bytes = chunk * static_cast<std::int64_t>(sizeof(double))});
  router_totals(chunks, width, partial.data(), sums);
}
template <class T>
void CudaExperts<T>::router_totals(std::int64_t layers, std::int64_t width, const double* sums, double* totals) {
  Memory<Cuda>::fill_zero(totals, static_cast<std::size_t>(width) * sizeof(double));
  for_each_element(ColumnTotals<double>{layers, width, sums, totals}, layers > 0 ? width : 0);
}
template <class T>
void CudaExperts<T>::router_sums_backward(const RouterRule& rule, const T* logits, std::int64_t n, const double* counts,
                                          double push, double square, T* logits_gradient) {
  for_each_warp(RouterSumsGradient<T>{logits, n, rule.experts, counts, push, square, logits_gradient}, n);
}

template <class T>
void CudaExperts<T>::group_by_expert(const RouterRule& rule, const std::int32_t* ids, std::int64_t n,
                                     std::int64_t* offsets, std::int64_t* token, std::int64_t* place) {
  const std::int64_t choices = n * rule.active, chunks = (choices + group_chunk - 1) / group_chunk;
  const Buffer<std::int64_t, Cuda> counts(chunks * rule.experts);
  if (chunks > 0) launch(CountChoices{ids, choices, rule.experts, counts.data()}, {.blocks = chunks});
  launch(ScanChoices{chunks, rule.experts, counts.data(), offsets},
         {.shared_bytes = rule.experts * static_cast<std::int64_t>(sizeof(std::int64_t))});
  if (chunks > 0)
    launch(PlaceChoices{ids, choices, rule.experts, rule.active, counts.data(), token, place}, {.blocks = chunks});
}

template <class T>
void CudaExperts<T>::expert_multiply(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* x,
                                     const T* weight, const T* bias, T* y) {
  if (ranges.rows > 0)
    launch(ExpertProduct<T, false>{ranges.offsets, ranges.experts, out, in, x, weight, bias, y},
           {.blocks = most_tiles(ranges), .blocks_y = column_tiles(out), .shared_bytes = 2 * expert_tile_bytes<C>});
}
template <class T>
void CudaExperts<T>::expert_multiply_back(const ExpertRanges& ranges, std::int64_t out, std::int64_t in,
                                          const T* y_gradient, const T* weight, T* x_gradient) {
  if (ranges.rows > 0)
    launch(ExpertProduct<T, true>{ranges.offsets, ranges.experts, in, out, y_gradient, weight, nullptr, x_gradient},
           {.blocks = most_tiles(ranges), .blocks_y = column_tiles(in), .shared_bytes = 2 * expert_tile_bytes<C>});
}
template <class T>
void CudaExperts<T>::expert_weight_gradient(const ExpertRanges& ranges, std::int64_t out, std::int64_t in,
                                            const T* y_gradient, const T* x, C* weight_gradient) {
  if (ranges.rows > 0)
    launch(ExpertWeightGradient<T>{ranges.offsets, out, in, y_gradient, x, weight_gradient},
           {.blocks = ranges.experts * column_tiles(out),
            .blocks_y = column_tiles(in),
            .shared_bytes = 2 * expert_tile_bytes<C>});
}
template <class T>
void CudaExperts<T>::expert_bias_gradient(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                          C* bias_gradient) {
  for_each_element(ExpertBiasGradient<T>{ranges.offsets, out, y_gradient, bias_gradient},
                   ranges.rows > 0 ? ranges.experts * out : 0);
}

template <class T>
void CudaExperts<T>::expert_activation(const ExpertActivation& activation, const T* u, std::int64_t rows,
                                       std::int64_t inner, T* y) {
  for_each_element(ExpertActivations<T>{inner, activation.interleaved, static_cast<C>(activation.alpha),
                                        static_cast<C>(activation.limit), u, nullptr, y},
                   rows * inner);
}
template <class T>
void CudaExperts<T>::expert_activation_backward(const ExpertActivation& activation, const T* u, const T* y_gradient,
                                                std::int64_t rows, std::int64_t inner, T* u_gradient) {
  for_each_element(ExpertActivations<T>{inner, activation.interleaved, static_cast<C>(activation.alpha),
                                        static_cast<C>(activation.limit), u, y_gradient, u_gradient},
                   rows * inner);
}
template <class T>
void CudaExperts<T>::combine_rows(const T* rows, const std::int64_t* place, const T* weights, std::int64_t n,
                                  std::int64_t active, std::int64_t width, T* y) {
  for_each_pack<T>(CombineRowElements<T>{rows, place, weights, active, width, y}, n * width,
                   in_packs<T>(width, rows, y));
}
template <class T>
void CudaExperts<T>::expert_row_dots(const ExpertRanges& ranges, std::int64_t width, const T* a, const T* b,
                                     bool by_expert, bool accumulate, T* dots) {
  for_each_warp(ExpertRowDots<T>{ranges.offsets, ranges.experts, ranges.rows, width, a, b, by_expert, accumulate, dots},
                ranges.rows);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
