// SPDX-License-Identifier: Apache-2.0
// Launch of the kernel that draws tokens.
#ifndef KDLIB_BACKEND_CUDA_SAMPLER_INL_HPP
#define KDLIB_BACKEND_CUDA_SAMPLER_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/backend/cuda/launch.hpp"
#include "kdlib/backend/cuda/sampler_body_inl.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
void CudaSampler<T>::queue_sample_rows(const SampleRule& rule, std::int64_t rows, std::int64_t columns, const T* logits,
                                       const double* uniform, SampledRow* out, std::int32_t* next) {
  if (rows <= 0) return;
  require<ShapeError>(columns > 0 && columns <= std::numeric_limits<std::int32_t>::max(), "[sample] rows of ", columns,
                      " logits; 1 to 2147483647 are needed");
  constexpr std::int64_t width = 256;
  const std::int64_t sums_count = (columns + width - 1) / width;
  const Buffer<double, Cuda> sums(rows * sums_count);
  constexpr auto most = static_cast<double>(std::numeric_limits<float>::max());
  const double inverse = rule.temperature > 0 ? std::min(1 / rule.temperature, most) : 1.0;
  const double floor = rule.min_p > 0 ? rule.temperature * std::log(rule.min_p) : 0.0;
  launch(SampleTokens<T>{rule, static_cast<float>(inverse), floor, logits, columns, sums_count, uniform, sums.data(),
                         out, next},
         {.blocks = rows, .shared_bytes = 8 * sizeof(LargestLogit) + reduce_bytes});
}

template <class T>
void CudaSampler<T>::sample_rows(const SampleRule& rule, std::int64_t rows, std::int64_t columns, const T* logits,
                                 const double* uniform, SampledRow* out) {
  if (rows <= 0) return;
  const Buffer<double, Cuda> numbers(rows);
  const Buffer<SampledRow, Cuda> drawn(rows);
  const auto bytes = [rows](std::size_t each) { return static_cast<std::size_t>(rows) * each; };
  Memory<Cuda>::from_host(numbers.data(), uniform, bytes(sizeof(double)));
  queue_sample_rows(rule, rows, columns, logits, numbers.data(), drawn.data(), nullptr);
  Memory<Cuda>::to_host(out, drawn.data(), bytes(sizeof(SampledRow)));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
