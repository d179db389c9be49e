// SPDX-License-Identifier: Apache-2.0
// Embedding, norm, rotation, activation and optimiser loops on the thread pool.
#ifndef KDLIB_BACKEND_CPU_ELEMENTWISE_INL_HPP
#define KDLIB_BACKEND_CPU_ELEMENTWISE_INL_HPP

#include <algorithm>
#include <cstring>
#include <vector>

#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/core/normal.hpp"
#include "kdlib/core/parallel.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t elementwise_grain = 1 << 13;  // elements a thread should at least have

/// Rows of `width` elements that make up elementwise_grain.
inline std::int64_t row_grain(std::int64_t width) {
  return width >= elementwise_grain ? 1 : elementwise_grain / (width > 0 ? width : 1);
}

template <class T>
void CpuElementwise<T>::embedding(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* table, T* out) {
  parallel_for(n, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      std::memcpy(out + i * width, table + std::int64_t{ids[i]} * width, static_cast<std::size_t>(width) * sizeof(T));
  });
}

template <class T>
void CpuElementwise<T>::embedding_backward(const std::int32_t* ids, std::int64_t n, std::int64_t width,
                                           const T* gradient, T* table_gradient) {
  parallel_for(width, 64, [&](std::int64_t begin, std::int64_t end) {  // by columns: rows repeat
    for (std::int64_t i = 0; i < n; ++i)
      KDLIB_VECTOR_CALL(axpy, end - begin, T{1}, gradient + i * width + begin,
                        table_gradient + std::int64_t{ids[i]} * width + begin);
  });
}

template <class T>
void CpuElementwise<T>::rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon,
                                 T* y, T* inverse_rms) {
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(rms_norm, x + begin * width, weight, end - begin, width, epsilon, y + begin * width,
                      inverse_rms == nullptr ? nullptr : inverse_rms + begin);
  });
}

template <class T>
void CpuElementwise<T>::rms_norm_backward(const T* x, const T* weight, const T* inverse_rms, const T* gradient,
                                          std::int64_t rows, std::int64_t width, T* x_gradient, bool accumulate,
                                          T* weight_gradient) {
  const std::int64_t grain = row_grain(width);
  const std::int64_t blocks = (rows + grain - 1) / grain;
  const int parts = static_cast<int>(blocks < thread_count() ? (blocks < 1 ? 1 : blocks) : thread_count());
  std::vector<T> partial(
      weight_gradient == nullptr ? 0 : static_cast<std::size_t>(parts) * static_cast<std::size_t>(width), T{0});
  parallel_parts(parts, [&](int part, int count) {
    const std::int64_t begin = rows * part / count, end = rows * (part + 1) / count;
    KDLIB_VECTOR_CALL(rms_norm_backward, x + begin * width, weight, inverse_rms + begin, gradient + begin * width,
                      end - begin, width, x_gradient == nullptr ? nullptr : x_gradient + begin * width, accumulate,
                      weight_gradient == nullptr ? nullptr : partial.data() + std::int64_t{part} * width);
  });
  for (int part = 0; weight_gradient != nullptr && part < parts; ++part)
    KDLIB_VECTOR_CALL(axpy, width, T{1}, partial.data() + std::int64_t{part} * width, weight_gradient);
}

template <class T>
void CpuElementwise<T>::rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads,
                             std::int64_t head_size, const T* cosine, const T* sine, bool inverse) {
  const std::int64_t half = head_size / 2;
  parallel_for(rows, row_grain(heads * head_size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t p = positions[i];
      KDLIB_VECTOR_CALL(rope_row, x + i * heads * head_size, heads, half, cosine + p * half, sine + p * half,
                        inverse ? T{-1} : T{1});
    }
  });
}

template <class T>
void CpuElementwise<T>::swiglu(const T* gate, const T* up, std::int64_t n, T* y) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(swiglu, gate + begin, up + begin, end - begin, y + begin);
  });
}

template <class T>
void CpuElementwise<T>::swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                                        T* up_gradient) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(swiglu_backward, gate + begin, up + begin, gradient + begin, end - begin, gate_gradient + begin,
                      up_gradient + begin);
  });
}

template <class T>
void CpuElementwise<T>::geglu(const T* gate, const T* up, std::int64_t n, T* y) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(geglu, gate + begin, up + begin, end - begin, y + begin);
  });
}

template <class T>
void CpuElementwise<T>::geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n, T* gate_gradient,
                                       T* up_gradient) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(geglu_backward, gate + begin, up + begin, gradient + begin, end - begin, gate_gradient + begin,
                      up_gradient + begin);
  });
}

template <class T>
void CpuElementwise<T>::add(const T* a, const T* b, std::int64_t n, T* y) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(add, end - begin, a + begin, b + begin, y + begin);
  });
}

template <class T>
void CpuElementwise<T>::axpy(std::int64_t n, T alpha, const T* x, T* y) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(axpy, end - begin, alpha, x + begin, y + begin);
  });
}

template <class T>
void fill_normal_numbers(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x) {
  const Rng rng(seed, RngPurpose::initialise, 0, row);
  parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      x[i] = static_cast<T>(normal_number(rng, static_cast<std::uint32_t>(i), deviation));
  });
}
template <class T>
void CpuElementwise<T>::fill_normal(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x) {
  fill_normal_numbers(n, deviation, seed, row, x);
}

template <class T>
void CpuElementwise<T>::scale(std::int64_t n, T alpha, T* x) {
  parallel_for(n, elementwise_grain,
               [&](std::int64_t begin, std::int64_t end) { KDLIB_VECTOR_CALL(scale, end - begin, alpha, x + begin); });
}

template <class T>
void CpuElementwise<T>::add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y) {
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) KDLIB_VECTOR_CALL(axpy, width, T{1}, bias, y + r * width);
  });
}

template <class T>
void CpuElementwise<T>::add_column_sums(const T* x, std::int64_t rows, std::int64_t width, T* sums) {
  parallel_for(width, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = 0; r < rows; ++r)
      KDLIB_VECTOR_CALL(axpy, end - begin, T{1}, x + r * width + begin, sums + begin);
  });
}

template <class T>
void CpuElementwise<T>::gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width,
                                    T* out) {
  parallel_for(count, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      std::memcpy(out + r * width, x + rows[r] * width, static_cast<std::size_t>(width) * sizeof(T));
  });
}

template <class T>
void CpuElementwise<T>::scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width,
                                         T* y) {
  parallel_for(count, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) KDLIB_VECTOR_CALL(axpy, width, T{1}, x + r * width, y + rows[r] * width);
  });
}

template <class T>
double CpuElementwise<T>::sum_squares(const T* x, std::int64_t n) {
  constexpr std::int64_t block = 1 << 12;
  const std::int64_t blocks = (n + block - 1) / block;
  std::vector<double> sums(static_cast<std::size_t>(blocks), 0.0);
  parallel_for(blocks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      KDLIB_VECTOR_CALL(sum_squares, x + b * block, n - b * block < block ? n - b * block : block,
                        &sums[static_cast<std::size_t>(b)]);
  });
  double total = 0;
  for (const double s : sums) total += s;
  return total;
}

template <class T>
void CpuElementwise<T>::largest_magnitudes(const T* x, std::int64_t rows, std::int64_t width, T* out) {
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) KDLIB_VECTOR_CALL(largest_magnitude, width, x + r * width, out + r);
  });
}

template <class T>
void CpuElementwise<T>::column_peaks(const T* x, std::int64_t rows, std::int64_t width, const T* factors, T* peaks) {
  constexpr std::int64_t block = 2048;  // of columns: their peaks stay in the nearest cache
  parallel_for(width, block, [&](std::int64_t begin, std::int64_t end) {
    std::fill(peaks + begin, peaks + end, T{0});
    for (std::int64_t c = begin; c < end; c += block)
      for (std::int64_t r = 0; r < rows; ++r)
        KDLIB_VECTOR_CALL(raise_peaks, std::min(block, end - c), x + r * width + c, factors[r], peaks + c);
  });
}

template <class T>
void CpuElementwise<T>::adamw(const AdamWStep& step, std::int64_t n, const T* gradient, T* first, T* second, T* value) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(adamw, step, end - begin, gradient + begin, first + begin, second + begin, value + begin);
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
