// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts in bf16: routing and activations are those of the float kernels on widened values.
#ifndef KDLIB_BACKEND_CPU_WIDENED_EXPERTS_INL_HPP
#define KDLIB_BACKEND_CPU_WIDENED_EXPERTS_INL_HPP

#include <cmath>
#include <vector>

#include "kdlib/backend/cpu/experts_inl.hpp"
#include "kdlib/backend/cpu/widened_attention_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// n values as floats.
inline std::vector<float> widened_copy(const bf16* x, std::int64_t n) {
  std::vector<float> y(static_cast<std::size_t>(n));
  widen_values(n, x, y.data());
  return y;
}

template <class T>
void WidenedExperts<T>::route(const RouterRule& rule, const T* logits, std::int64_t n, std::int32_t* ids, T* weights) {
  const std::vector<float> z = widened_copy(logits, n * rule.experts);
  std::vector<float> w(static_cast<std::size_t>(n * rule.active));
  CpuExperts<float>::route(rule, z.data(), n, ids, w.data());
  narrow_values(n * rule.active, w.data(), weights);
}

template <class T>
void WidenedExperts<T>::route_again(const RouterRule& rule, const T* logits, std::int64_t n, const std::int32_t* ids,
                                    T* weights) {
  const std::vector<float> z = widened_copy(logits, n * rule.experts);
  std::vector<float> w(static_cast<std::size_t>(n * rule.active));
  CpuExperts<float>::route_again(rule, z.data(), n, ids, w.data());
  narrow_values(n * rule.active, w.data(), weights);
}

template <class T>
void WidenedExperts<T>::route_backward(const RouterRule& rule, const T* logits, const std::int32_t* ids,
                                       const T* weights, const T* weights_gradient, std::int64_t n,
                                       T* logits_gradient) {
  const std::vector<float> z = widened_copy(logits, n * rule.experts), w = widened_copy(weights, n * rule.active),
                           dw = widened_copy(weights_gradient, n * rule.active);
  std::vector<float> dz(z.size());
  CpuExperts<float>::route_backward(rule, z.data(), ids, w.data(), dw.data(), n, dz.data());
  narrow_values(n * rule.experts, dz.data(), logits_gradient);
}

template <class T>
void WidenedExperts<T>::take_known(const std::int32_t* given, std::int64_t n, std::int32_t* ids) {
  CpuExperts<float>::take_known(given, n, ids);
}

template <class T>
void WidenedExperts<T>::router_sums(const RouterRule& rule, const T* logits, const std::int32_t* ids, std::int64_t n,
                                    double* sums) {
  CpuExperts<float>::router_sums(rule, widened_copy(logits, n * rule.experts).data(), ids, n, sums);
}

template <class T>
void WidenedExperts<T>::router_totals(std::int64_t layers, std::int64_t width, const double* sums, double* totals) {
  CpuExperts<float>::router_totals(layers, width, sums, totals);
}

template <class T>
void WidenedExperts<T>::router_sums_backward(const RouterRule& rule, const T* logits, std::int64_t n,
                                             const double* counts, double push, double square, T* logits_gradient) {
  std::vector<float> dz = widened_copy(logits_gradient, n * rule.experts);
  CpuExperts<float>::router_sums_backward(rule, widened_copy(logits, n * rule.experts).data(), n, counts, push, square,
                                          dz.data());
  narrow_values(n * rule.experts, dz.data(), logits_gradient);
}

template <class T>
void WidenedExperts<T>::group_by_expert(const RouterRule& rule, const std::int32_t* ids, std::int64_t n,
                                        std::int64_t* offsets, std::int64_t* token, std::int64_t* place) {
  CpuExperts<float>::group_by_expert(rule, ids, n, offsets, token, place);
}

template <class T>
void WidenedExperts<T>::expert_multiply(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* x,
                                        const T* weight, const T* bias, T* y) {
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        float* sums = coded_scratch<7>((rows + 1) * columns);
        float* added = sums + rows * columns;
        if (bias != nullptr) widen_values(columns, bias + e * out + column, added);
        for (std::int64_t r = 0; bias != nullptr && r < rows; ++r)
          std::copy(added, added + columns, sums + r * columns);
        WidenedGemm<T>::gemm_serial(false, true, rows, columns, in, 1.0f, x + row * in, in,
                                    weight + (e * out + column) * in, in, bias != nullptr ? 1.0f : 0.0f, sums, columns);
        narrow_rows(rows, columns, sums, columns, y + row * out + column, out);
      });
}

template <class T>
void WidenedExperts<T>::expert_multiply_back(const ExpertRanges& ranges, std::int64_t out, std::int64_t in,
                                             const T* y_gradient, const T* weight, T* x_gradient) {
  each_expert_block(
      ranges, in, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        WidenedGemm<T>::gemm_serial(false, false, rows, columns, out, 1.0f, y_gradient + row * out, out,
                                    weight + e * out * in + column, in, 0.0f, x_gradient + row * in + column, in);
      });
}

template <class T>
void WidenedExperts<T>::expert_multiply_packed(const ExpertRanges& ranges, std::int64_t out, const T* x,
                                               const PackedMatrix<T, Cpu>& weight, const T* bias, T* y) {
  const std::int64_t in = weight.columns();
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        T* target = y + row * out + column;
        weight.multiply(e * out + column, columns, rows, x + row * in, 0.0f, target, out);
        for (std::int64_t r = 0; bias != nullptr && r < rows; ++r)
          axpy_widened(columns, 1.0f, bias + e * out + column, target + r * out);
      });
}

template <class T>
void WidenedExperts<T>::expert_multiply_back_packed(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                                    const PackedMatrix<T, Cpu>& weight, T* x_gradient) {
  const std::int64_t in = weight.columns();
  take_units(ranges.experts, [&](std::int64_t e) {
    const std::int64_t row = ranges.offsets[e], rows = ranges.offsets[e + 1] - row;
    if (rows > 0) weight.multiply_back(e * out, out, rows, y_gradient + row * out, out, 0.0f, x_gradient + row * in);
  });
}

template <class T>
void WidenedExperts<T>::expert_weight_gradient(const ExpertRanges& ranges, std::int64_t out, std::int64_t in,
                                               const T* y_gradient, const T* x, float* weight_gradient) {
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        WidenedGemm<T>::gemm_serial(true, false, columns, in, rows, 1.0f, y_gradient + row * out + column, out,
                                    x + row * in, in, 1.0f, weight_gradient + (e * out + column) * in, in);
      });
}

template <class T>
void WidenedExperts<T>::expert_bias_gradient(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                             float* bias_gradient) {
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        for (std::int64_t r = row; r < row + rows; ++r)
          add_widened(columns, y_gradient + r * out + column, bias_gradient + e * out + column);
      });
}

template <class T>
void WidenedExperts<T>::expert_activation(const ExpertActivation& activation, const T* u, std::int64_t rows,
                                          std::int64_t inner, T* y) {
  parallel_for(rows, row_grain(inner), [&](std::int64_t begin, std::int64_t end) {
    float* row = coded_scratch<7>(3 * inner);
    for (std::int64_t r = begin; r < end; ++r) {
      widen_values(2 * inner, u + r * 2 * inner, row);
      CpuExperts<float>::expert_activation(activation, row, 1, inner, row + 2 * inner);
      narrow_values(inner, row + 2 * inner, y + r * inner);
    }
  });
}

template <class T>
void WidenedExperts<T>::expert_activation_backward(const ExpertActivation& activation, const T* u, const T* y_gradient,
                                                   std::int64_t rows, std::int64_t inner, T* u_gradient) {
  parallel_for(rows, row_grain(inner), [&](std::int64_t begin, std::int64_t end) {
    float* row = coded_scratch<7>(5 * inner);
    float *dy = row + 2 * inner, *du = dy + inner;
    for (std::int64_t r = begin; r < end; ++r) {
      widen_values(2 * inner, u + r * 2 * inner, row);
      widen_values(inner, y_gradient + r * inner, dy);
      CpuExperts<float>::expert_activation_backward(activation, row, dy, 1, inner, du);
      narrow_values(2 * inner, du, u_gradient + r * 2 * inner);
    }
  });
}

template <class T>
void WidenedExperts<T>::combine_rows(const T* rows, const std::int64_t* place, const T* weights, std::int64_t n,
                                     std::int64_t active, std::int64_t width, T* y) {
  parallel_for(n, row_grain(active * width), [&](std::int64_t begin, std::int64_t end) {
    float* sum = coded_scratch<7>(2 * width);
    float* row = sum + width;
    for (std::int64_t i = begin; i < end; ++i) {
      widen_values(width, y + i * width, sum);
      for (std::int64_t j = i * active; j < (i + 1) * active; ++j) {
        widen_values(width, rows + place[j] * width, row);
        KDLIB_VECTOR_CALL(axpy, width, weights == nullptr ? 1.0f : static_cast<float>(weights[j]), row, sum);
      }
      narrow_values(width, sum, y + i * width);
    }
  });
}

template <class T>
void WidenedExperts<T>::expert_row_dots(const ExpertRanges& ranges, std::int64_t width, const T* a, const T* b,
                                        bool by_expert, bool accumulate, T* dots) {
  take_units(ranges.experts, [&](std::int64_t e) {
    for (std::int64_t r = ranges.offsets[e]; r < ranges.offsets[e + 1]; ++r) {
      const float value = dot_widened(a + r * width, b + (by_expert ? e : r) * width, width);
      dots[r] = T(accumulate ? static_cast<float>(dots[r]) + value : value);
    }
  });
}

template <class T>
void WidenedExperts<T>::scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x) {
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) scale_widened(width, static_cast<float>(factors[r]), x + r * width);
  });
}

template <class T>
void WidenedExperts<T>::add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y) {
  parallel_for(n, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      axpy_widened(width, 1.0f / (1.0f + std::exp(-static_cast<float>(gate[i]))), x + i * width, y + i * width);
  });
}

template <class T>
void WidenedExperts<T>::add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n,
                                           std::int64_t width, T* gate_gradient, T* x_gradient) {
  parallel_for(n, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float s = 1.0f / (1.0f + std::exp(-static_cast<float>(gate[i])));
      gate_gradient[i] = T(s * (1.0f - s) * dot_widened(x + i * width, y_gradient + i * width, width));
      for (std::int64_t j = i * width; j < (i + 1) * width; ++j)
        x_gradient[j] = T(s * static_cast<float>(y_gradient[j]));
    }
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
