// SPDX-License-Identifier: Apache-2.0
// Kernels of mixtures of experts: routing, products grouped by expert, activation and combination. Cost follows the
// active experts.
#ifndef KDLIB_BACKEND_CPU_EXPERTS_INL_HPP
#define KDLIB_BACKEND_CPU_EXPERTS_INL_HPP

#include <algorithm>
#include <cmath>
#include <vector>

#include "kdlib/backend/cpu/attention_inl.hpp"
#include "kdlib/backend/cpu/elementwise_inl.hpp"
#include "kdlib/quant/packed_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t expert_block =
    192;  // columns of a product that one unit of work writes; a multiple of panel_grain

/// Log-sum-exp of n logits in double.
template <class T>
double router_log_sum(const T* z, std::int64_t n) {
  T top = z[0];
  for (std::int64_t e = 1; e < n; ++e) top = z[e] > top ? z[e] : top;
  double sum = 0;
  for (std::int64_t e = 0; e < n; ++e) sum += std::exp(static_cast<double>(z[e] - top));
  return static_cast<double>(top) + std::log(sum);
}

template <class T>
void CpuExperts<T>::route_again(const RouterRule& rule, const T* logits, std::int64_t n, const std::int32_t* ids,
                                T* weights) {
  const std::int64_t count = rule.experts, k = rule.active;
  parallel_for(n, 1 + 4096 / count, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* z = logits + i * count;
      T *w = weights + i * k, sum = 0, top = z[ids[i * k]];
      for (std::int64_t j = 1; j < k; ++j) top = std::max(top, z[ids[i * k + j]]);
      for (std::int64_t j = 0; j < k; ++j) sum += w[j] = std::exp(z[ids[i * k + j]] - top);
      if (!rule.over_chosen) sum = static_cast<T>(std::exp(router_log_sum(z, count) - static_cast<double>(top)));
      for (std::int64_t j = 0; j < k; ++j) w[j] /= sum;
    }
  });
}

template <class T>
void CpuExperts<T>::route(const RouterRule& rule, const T* logits, std::int64_t n, std::int32_t* ids, T* weights) {
  const std::int64_t count = rule.experts, k = rule.active;
  parallel_for(n, 1 + 4096 / count, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(count));
    for (std::int64_t i = begin; i < end; ++i) {
      const T* z = logits + i * count;
      for (std::int64_t e = 0; e < count; ++e) order[static_cast<std::size_t>(e)] = static_cast<std::int32_t>(e);
      // A NaN goes last, so that the order is one whatever the logits are.
      std::partial_sort(order.begin(), order.begin() + k, order.end(), [z](std::int32_t a, std::int32_t b) {
        if (std::isnan(z[a]) || std::isnan(z[b]))
          return std::isnan(z[a]) == std::isnan(z[b]) ? a < b : std::isnan(z[b]);
        return z[a] != z[b] ? z[a] > z[b] : a < b;
      });
      std::copy(order.begin(), order.begin() + k, ids + i * k);
    }
  });
  route_again(rule, logits, n, ids, weights);
}

template <class T>
void CpuExperts<T>::route_backward(const RouterRule& rule, const T* logits, const std::int32_t* ids, const T* weights,
                                   const T* weights_gradient, std::int64_t n, T* logits_gradient) {
  const std::int64_t count = rule.experts, k = rule.active;
  parallel_for(n, 1 + 4096 / count, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T *z = logits + i * count, *w = weights + i * k, *dw = weights_gradient + i * k;
      T *dz = logits_gradient + i * count, mean = 0;
      for (std::int64_t j = 0; j < k; ++j) mean += w[j] * dw[j];
      if (rule.over_chosen) {
        std::fill(dz, dz + count, T{0});
      } else {
        const double sum = router_log_sum(z, count);
        for (std::int64_t e = 0; e < count; ++e)
          dz[e] = -mean * static_cast<T>(std::exp(static_cast<double>(z[e]) - sum));
      }
      for (std::int64_t j = 0; j < k; ++j)
        dz[ids[i * k + j]] += rule.over_chosen ? w[j] * (dw[j] - mean) : w[j] * dw[j];
    }
  });
}

template <class T>
void CpuExperts<T>::take_known(const std::int32_t* given, std::int64_t n, std::int32_t* ids) {
  for (std::int64_t i = 0; i < n; ++i)
    if (given[i] != -1) ids[i] = given[i];
}

template <class T>
void CpuExperts<T>::router_sums(const RouterRule& rule, const T* logits, const std::int32_t* ids, std::int64_t n,
                                double* sums) {
  const std::int64_t count = rule.experts;
  double *const counts = sums, *const probabilities = sums + count;
  std::fill(sums, sums + 2 * count + 1, 0.0);
  double squares = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const T* z = logits + i * count;
    const double sum = router_log_sum(z, count);
    squares += sum * sum;
    for (std::int64_t e = 0; e < count; ++e) probabilities[e] += std::exp(static_cast<double>(z[e]) - sum);
    for (std::int64_t j = 0; j < rule.active; ++j) counts[ids[i * rule.active + j]] += 1;
  }
  sums[2 * count] = squares;
}

template <class T>
void CpuExperts<T>::router_totals(std::int64_t layers, std::int64_t width, const double* sums, double* totals) {
  std::fill(totals, totals + width, 0.0);
  for (std::int64_t l = 0; l < layers; ++l)
    for (std::int64_t i = 0; i < width; ++i) totals[i] += sums[l * width + i];
}

template <class T>
void CpuExperts<T>::router_sums_backward(const RouterRule& rule, const T* logits, std::int64_t n, const double* counts,
                                         double push, double square, T* logits_gradient) {
  const std::int64_t count = rule.experts;
  std::vector<double> pushes(counts, counts + count);
  for (double& x : pushes) x *= push;
  parallel_for(n, 1 + 4096 / count, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> p(static_cast<std::size_t>(count));
    for (std::int64_t i = begin; i < end; ++i) {
      const T* z = logits + i * count;
      const double sum = router_log_sum(z, count);
      double mean = 0;
      for (std::int64_t e = 0; e < count; ++e) {
        p[static_cast<std::size_t>(e)] = std::exp(static_cast<double>(z[e]) - sum);
        mean += pushes[static_cast<std::size_t>(e)] * p[static_cast<std::size_t>(e)];
      }
      for (std::int64_t e = 0; e < count; ++e)
        logits_gradient[i * count + e] += static_cast<T>(
            p[static_cast<std::size_t>(e)] * (pushes[static_cast<std::size_t>(e)] - mean + 2 * square * sum));
    }
  });
}

template <class T>
void CpuExperts<T>::group_by_expert(const RouterRule& rule, const std::int32_t* ids, std::int64_t n,
                                    std::int64_t* offsets, std::int64_t* token, std::int64_t* place) {
  const std::int64_t rows = n * rule.active;
  std::fill(offsets, offsets + rule.experts + 1, std::int64_t{0});
  for (std::int64_t i = 0; i < rows; ++i) ++offsets[ids[i] + 1];
  for (std::int64_t e = 0; e < rule.experts; ++e) offsets[e + 1] += offsets[e];
  std::vector<std::int64_t> next(offsets, offsets + rule.experts);
  for (std::int64_t i = 0; i < rows; ++i) {
    place[i] = next[static_cast<std::size_t>(ids[i])]++;
    token[place[i]] = i / rule.active;
  }
}

/// Calls body(expert, first row, rows, first column, columns) for every expert that has rows and every block of `width`
/// columns.
template <class F>
void each_expert_block(const ExpertRanges& ranges, std::int64_t width, F&& body) {
  std::vector<std::int64_t> busy;
  for (std::int64_t e = 0; e < ranges.experts; ++e)
    if (ranges.offsets[e + 1] > ranges.offsets[e]) busy.push_back(e);
  const std::int64_t blocks = (width + expert_block - 1) / expert_block;
  take_units(static_cast<std::int64_t>(busy.size()) * blocks, [&](std::int64_t unit) {
    const std::int64_t e = busy[static_cast<std::size_t>(unit / blocks)], column = unit % blocks * expert_block;
    body(e, ranges.offsets[e], ranges.offsets[e + 1] - ranges.offsets[e], column,
         std::min(expert_block, width - column));
  });
}

template <class T>
void CpuExperts<T>::expert_multiply(const ExpertRanges& ranges, std::int64_t out, std::int64_t in, const T* x,
                                    const T* weight, const T* bias, T* y) {
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        T* target = y + row * out + column;
        CpuGemm<T>::gemm_serial(false, true, rows, columns, in, T{1}, x + row * in, in,
                                weight + (e * out + column) * in, in, T{0}, target, out);
        for (std::int64_t r = 0; bias != nullptr && r < rows; ++r)
          KDLIB_VECTOR_CALL(axpy, columns, T{1}, bias + e * out + column, target + r * out);
      });
}

template <class T>
void CpuExperts<T>::expert_multiply_back(const ExpertRanges& ranges, std::int64_t out, std::int64_t in,
                                         const T* y_gradient, const T* weight, T* x_gradient) {
  each_expert_block(
      ranges, in, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        CpuGemm<T>::gemm_serial(false, false, rows, columns, out, T{1}, y_gradient + row * out, out,
                                weight + e * out * in + column, in, T{0}, x_gradient + row * in + column, in);
      });
}

template <class T>
void CpuExperts<T>::expert_multiply_packed(const ExpertRanges& ranges, std::int64_t out, const T* x,
                                           const PackedMatrix<T, Cpu>& weight, const T* bias, T* y) {
  const std::int64_t in = weight.columns();
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        T* target = y + row * out + column;
        weight.multiply(e * out + column, columns, rows, x + row * in, T{0}, target, out);
        for (std::int64_t r = 0; bias != nullptr && r < rows; ++r)
          KDLIB_VECTOR_CALL(axpy, columns, T{1}, bias + e * out + column, target + r * out);
      });
}

template <class T>
void CpuExperts<T>::expert_multiply_back_packed(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                                const PackedMatrix<T, Cpu>& weight, T* x_gradient) {
  const std::int64_t in = weight.columns();
  take_units(ranges.experts, [&](std::int64_t e) {
    const std::int64_t row = ranges.offsets[e], rows = ranges.offsets[e + 1] - row;
    if (rows > 0) weight.multiply_back(e * out, out, rows, y_gradient + row * out, out, T{0}, x_gradient + row * in);
  });
}

template <class T>
void CpuExperts<T>::expert_weight_gradient(const ExpertRanges& ranges, std::int64_t out, std::int64_t in,
                                           const T* y_gradient, const T* x, T* weight_gradient) {
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        CpuGemm<T>::gemm_serial(true, false, columns, in, rows, T{1}, y_gradient + row * out + column, out,
                                x + row * in, in, T{1}, weight_gradient + (e * out + column) * in, in);
      });
}

template <class T>
void CpuExperts<T>::expert_bias_gradient(const ExpertRanges& ranges, std::int64_t out, const T* y_gradient,
                                         T* bias_gradient) {
  each_expert_block(
      ranges, out, [&](std::int64_t e, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
        for (std::int64_t r = row; r < row + rows; ++r)
          KDLIB_VECTOR_CALL(axpy, columns, T{1}, y_gradient + r * out + column, bias_gradient + e * out + column);
      });
}

/// One pair of gpt-oss's activation: the value, and its derivatives by gate and up.
template <class T>
struct ClampedGate {
  T value, by_gate, by_up;
  ClampedGate(T gate, T up, T alpha, T limit) {
    const T g = gate < limit ? gate : limit, l = up < limit ? (up > -limit ? up : -limit) : limit;
    const T s = T{1} / (T{1} + std::exp(-alpha * g));
    value = g * s * (l + T{1});
    by_gate = gate < limit ? s * (T{1} + alpha * g * (T{1} - s)) * (l + T{1}) : T{0};
    by_up = up < limit && up > -limit ? g * s : T{0};
  }
};

template <class T>
void CpuExperts<T>::expert_activation(const ExpertActivation& activation, const T* u, std::int64_t rows,
                                      std::int64_t inner, T* y) {
  const std::int64_t step = activation.interleaved ? 2 : 1, up = activation.interleaved ? 1 : inner;
  const T alpha = static_cast<T>(activation.alpha), limit = static_cast<T>(activation.limit);
  parallel_for(rows, row_grain(inner), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* row = u + r * 2 * inner;
      if (activation.limit > 0)
        for (std::int64_t i = 0; i < inner; ++i)
          y[r * inner + i] = ClampedGate<T>(row[i * step], row[i * step + up], alpha, limit).value;
      else KDLIB_VECTOR_CALL(swiglu, row, row + inner, inner, y + r * inner);
    }
  });
}

template <class T>
void CpuExperts<T>::expert_activation_backward(const ExpertActivation& activation, const T* u, const T* y_gradient,
                                               std::int64_t rows, std::int64_t inner, T* u_gradient) {
  const std::int64_t step = activation.interleaved ? 2 : 1, up = activation.interleaved ? 1 : inner;
  const T alpha = static_cast<T>(activation.alpha), limit = static_cast<T>(activation.limit);
  parallel_for(rows, row_grain(inner), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T *row = u + r * 2 * inner, *dy = y_gradient + r * inner;
      T* du = u_gradient + r * 2 * inner;
      if (activation.limit <= 0) {
        KDLIB_VECTOR_CALL(swiglu_backward, row, row + inner, dy, inner, du, du + inner);
        continue;
      }
      for (std::int64_t i = 0; i < inner; ++i) {
        const ClampedGate<T> one(row[i * step], row[i * step + up], alpha, limit);
        du[i * step] = dy[i] * one.by_gate;
        du[i * step + up] = dy[i] * one.by_up;
      }
    }
  });
}

template <class T>
void CpuExperts<T>::combine_rows(const T* rows, const std::int64_t* place, const T* weights, std::int64_t n,
                                 std::int64_t active, std::int64_t width, T* y) {
  parallel_for(n, row_grain(active * width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * active; i < end * active; ++i)
      KDLIB_VECTOR_CALL(axpy, width, weights == nullptr ? T{1} : weights[i], rows + place[i] * width,
                        y + i / active * width);
  });
}

template <class T>
void CpuExperts<T>::expert_row_dots(const ExpertRanges& ranges, std::int64_t width, const T* a, const T* b,
                                    bool by_expert, bool accumulate, T* dots) {
  take_units(ranges.experts, [&](std::int64_t e) {
    for (std::int64_t r = ranges.offsets[e]; r < ranges.offsets[e + 1]; ++r) {
      T value;
      KDLIB_VECTOR_CALL(dot, a + r * width, b + (by_expert ? e : r) * width, width, &value);
      dots[r] = accumulate ? dots[r] + value : value;
    }
  });
}

template <class T>
void CpuExperts<T>::scale_each_row(const T* factors, std::int64_t rows, std::int64_t width, T* x) {
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) KDLIB_VECTOR_CALL(scale, width, factors[r], x + r * width);
  });
}

template <class T>
void CpuExperts<T>::add_gated(const T* gate, const T* x, std::int64_t n, std::int64_t width, T* y) {
  parallel_for(n, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      KDLIB_VECTOR_CALL(axpy, width, T{1} / (T{1} + std::exp(-gate[i])), x + i * width, y + i * width);
  });
}

template <class T>
void CpuExperts<T>::add_gated_backward(const T* gate, const T* x, const T* y_gradient, std::int64_t n,
                                       std::int64_t width, T* gate_gradient, T* x_gradient) {
  parallel_for(n, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T s = T{1} / (T{1} + std::exp(-gate[i]));
      T along;
      KDLIB_VECTOR_CALL(dot, x + i * width, y_gradient + i * width, width, &along);
      gate_gradient[i] = s * (T{1} - s) * along;
      for (std::int64_t j = 0; j < width; ++j) x_gradient[i * width + j] = s * y_gradient[i * width + j];
    }
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
