// SPDX-License-Identifier: Apache-2.0
// Embedding, norm, rotation, activation and optimiser loops on bf16: pieces are widened, given to the float loops and
// rounded once.
#ifndef KDLIB_BACKEND_CPU_WIDENED_ELEMENTWISE_INL_HPP
#define KDLIB_BACKEND_CPU_WIDENED_ELEMENTWISE_INL_HPP

#include <algorithm>
#include <cstring>
#include <vector>

#include "kdlib/backend/cpu/elementwise_inl.hpp"
#include "kdlib/backend/cpu/widened_gemm_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t widened_piece = 1024;  // elements that are widened at a time

/// Calls body(offset, count) on the thread pool for pieces of [0, n) of at most widened_piece elements.
template <class F>
void each_widened_piece(std::int64_t n, F&& body) {
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += widened_piece) body(i, std::min(widened_piece, end - i));
  });
}

/// Up to widened_piece values as floats, on the stack.
struct WidenedPiece {
  alignas(64) float data[widened_piece];

  WidenedPiece() = default;
  WidenedPiece(const bf16* x, std::int64_t n) { widen_values(n, x, data); }
};

/// sums += x on this thread.
template <class T>
void add_widened(std::int64_t n, const T* x, float* sums) {
  for (std::int64_t i = 0; i < n; i += widened_piece) {
    const std::int64_t count = std::min(widened_piece, n - i);
    const WidenedPiece piece(x + i, count);
    KDLIB_VECTOR_CALL(axpy, count, 1.0f, piece.data, sums + i);
  }
}

template <class T>
void WidenedElementwise<T>::widen(std::int64_t n, const T* x, float* y) {
  parallel_for(n, elementwise_grain,
               [&](std::int64_t begin, std::int64_t end) { widen_values(end - begin, x + begin, y + begin); });
}

template <class T>
void WidenedElementwise<T>::narrow(std::int64_t n, const float* x, T* y) {
  parallel_for(n, elementwise_grain,
               [&](std::int64_t begin, std::int64_t end) { narrow_values(end - begin, x + begin, y + begin); });
}

template <class T>
void WidenedElementwise<T>::embedding(const std::int32_t* ids, std::int64_t n, std::int64_t width, const T* table,
                                      T* out) {
  CpuElementwise<T>::embedding(ids, n, width, table, out);  // copies alone
}

template <class T>
void WidenedElementwise<T>::embedding_backward(const std::int32_t* ids, std::int64_t n, std::int64_t width,
                                               const T* gradient, float* table_gradient) {
  parallel_for(width, 64, [&](std::int64_t begin, std::int64_t end) {  // by columns: rows repeat
    for (std::int64_t i = 0; i < n; ++i)
      add_widened(end - begin, gradient + i * width + begin, table_gradient + std::int64_t{ids[i]} * width + begin);
  });
}

template <class T>
void WidenedElementwise<T>::rms_norm(const T* x, const T* weight, std::int64_t rows, std::int64_t width, double epsilon,
                                     T* y, float* inverse_rms) {
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    float* factor = coded_scratch<5>(2 * width);
    float* row = factor + width;
    widen_values(width, weight, factor);
    for (std::int64_t r = begin; r < end; ++r) {
      widen_values(width, x + r * width, row);
      KDLIB_VECTOR_CALL(rms_norm, row, factor, 1, width, epsilon, row,
                        inverse_rms == nullptr ? nullptr : inverse_rms + r);
      narrow_values(width, row, y + r * width);
    }
  });
}

template <class T>
void WidenedElementwise<T>::rms_norm_backward(const T* x, const T* weight, const float* inverse_rms, const T* gradient,
                                              std::int64_t rows, std::int64_t width, T* x_gradient, bool accumulate,
                                              float* weight_gradient) {
  const std::int64_t grain = row_grain(width), blocks = std::max<std::int64_t>(1, (rows + grain - 1) / grain);
  const int parts = static_cast<int>(std::min<std::int64_t>(blocks, thread_count()));
  std::vector<float> partial(weight_gradient == nullptr ? 0 : static_cast<std::size_t>(parts * width), 0.0f);
  parallel_parts(parts, [&](int part, int count) {
    float* factor = coded_scratch<5>(4 * width);
    float *row = factor + width, *g = row + width, *dx = g + width;
    widen_values(width, weight, factor);
    for (std::int64_t r = rows * part / count; r < rows * (part + 1) / count; ++r) {
      widen_values(width, x + r * width, row);
      widen_values(width, gradient + r * width, g);
      if (x_gradient != nullptr && accumulate) widen_values(width, x_gradient + r * width, dx);
      KDLIB_VECTOR_CALL(rms_norm_backward, row, factor, inverse_rms + r, g, 1, width,
                        x_gradient == nullptr ? nullptr : dx, accumulate,
                        weight_gradient == nullptr ? nullptr : partial.data() + std::int64_t{part} * width);
      if (x_gradient != nullptr) narrow_values(width, dx, x_gradient + r * width);
    }
  });
  for (int part = 0; weight_gradient != nullptr && part < parts; ++part)
    KDLIB_VECTOR_CALL(axpy, width, 1.0f, partial.data() + std::int64_t{part} * width, weight_gradient);
}

template <class T>
void WidenedElementwise<T>::rope(T* x, const std::int32_t* positions, std::int64_t rows, std::int64_t heads,
                                 std::int64_t head_size, const float* cosine, const float* sine, bool inverse) {
  const std::int64_t half = head_size / 2, width = heads * head_size;
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    float* row = coded_scratch<5>(width);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t p = positions[i];
      widen_values(width, x + i * width, row);
      KDLIB_VECTOR_CALL(rope_row, row, heads, half, cosine + p * half, sine + p * half, inverse ? -1.0f : 1.0f);
      narrow_values(width, row, x + i * width);
    }
  });
}

template <class T>
void WidenedElementwise<T>::swiglu(const T* gate, const T* up, std::int64_t n, T* y) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) {
    WidenedPiece g(gate + i, count);
    const WidenedPiece u(up + i, count);
    KDLIB_VECTOR_CALL(swiglu, g.data, u.data, count, g.data);
    narrow_values(count, g.data, y + i);
  });
}

template <class T>
void WidenedElementwise<T>::swiglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n,
                                            T* gate_gradient, T* up_gradient) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) {
    const WidenedPiece g(gate + i, count), u(up + i, count);
    WidenedPiece d(gradient + i, count), du;
    KDLIB_VECTOR_CALL(swiglu_backward, g.data, u.data, d.data, count, d.data, du.data);
    narrow_values(count, d.data, gate_gradient + i);
    narrow_values(count, du.data, up_gradient + i);
  });
}

template <class T>
void WidenedElementwise<T>::geglu(const T* gate, const T* up, std::int64_t n, T* y) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) {
    WidenedPiece g(gate + i, count);
    const WidenedPiece u(up + i, count);
    KDLIB_VECTOR_CALL(geglu, g.data, u.data, count, g.data);
    narrow_values(count, g.data, y + i);
  });
}

template <class T>
void WidenedElementwise<T>::geglu_backward(const T* gate, const T* up, const T* gradient, std::int64_t n,
                                           T* gate_gradient, T* up_gradient) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) {
    const WidenedPiece g(gate + i, count), u(up + i, count);
    WidenedPiece d(gradient + i, count), du;
    KDLIB_VECTOR_CALL(geglu_backward, g.data, u.data, d.data, count, d.data, du.data);
    narrow_values(count, d.data, gate_gradient + i);
    narrow_values(count, du.data, up_gradient + i);
  });
}

template <class T>
void WidenedElementwise<T>::add(const T* a, const T* b, std::int64_t n, T* y) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) {
    WidenedPiece x(a + i, count);
    const WidenedPiece z(b + i, count);
    KDLIB_VECTOR_CALL(add, count, x.data, z.data, x.data);
    narrow_values(count, x.data, y + i);
  });
}

/// y += alpha x on this thread.
template <class T>
void axpy_widened(std::int64_t n, float alpha, const T* x, T* y) {
  for (std::int64_t i = 0; i < n; i += widened_piece) {
    const std::int64_t count = std::min(widened_piece, n - i);
    const WidenedPiece a(x + i, count);
    WidenedPiece b(y + i, count);
    KDLIB_VECTOR_CALL(axpy, count, alpha, a.data, b.data);
    narrow_values(count, b.data, y + i);
  }
}

/// x *= alpha on this thread.
template <class T>
void scale_widened(std::int64_t n, float alpha, T* x) {
  for (std::int64_t i = 0; i < n; i += widened_piece) {
    const std::int64_t count = std::min(widened_piece, n - i);
    WidenedPiece a(x + i, count);
    KDLIB_VECTOR_CALL(scale, count, alpha, a.data);
    narrow_values(count, a.data, x + i);
  }
}

template <class T>
void WidenedElementwise<T>::axpy(std::int64_t n, float alpha, const T* x, T* y) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) { axpy_widened(count, alpha, x + i, y + i); });
}

template <class T>
void WidenedElementwise<T>::fill_normal(std::int64_t n, double deviation, std::uint64_t seed, std::uint32_t row, T* x) {
  fill_normal_numbers(n, deviation, seed, row, x);
}

template <class T>
void WidenedElementwise<T>::scale(std::int64_t n, float alpha, T* x) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) { scale_widened(count, alpha, x + i); });
}

template <class T>
void WidenedElementwise<T>::add_bias(const T* bias, std::int64_t rows, std::int64_t width, T* y) {
  parallel_for(rows, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) axpy_widened(width, 1.0f, bias, y + r * width);
  });
}

template <class T>
void WidenedElementwise<T>::add_column_sums(const T* x, std::int64_t rows, std::int64_t width, float* sums) {
  parallel_for(width, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = 0; r < rows; ++r) add_widened(end - begin, x + r * width + begin, sums + begin);
  });
}

template <class T>
void WidenedElementwise<T>::gather_rows(const T* x, const std::int64_t* rows, std::int64_t count, std::int64_t width,
                                        T* out) {
  CpuElementwise<T>::gather_rows(x, rows, count, width, out);  // copies alone
}

template <class T>
void WidenedElementwise<T>::scatter_add_rows(const T* x, const std::int64_t* rows, std::int64_t count,
                                             std::int64_t width, T* y) {
  parallel_for(count, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) axpy_widened(width, 1.0f, x + r * width, y + rows[r] * width);
  });
}

template <class T>
double WidenedElementwise<T>::sum_squares(const T* x, std::int64_t n) {
  const std::int64_t blocks = (n + widened_piece - 1) / widened_piece;
  std::vector<double> sums(static_cast<std::size_t>(blocks), 0.0);
  parallel_for(blocks, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t count = std::min(widened_piece, n - b * widened_piece);
      const WidenedPiece piece(x + b * widened_piece, count);
      KDLIB_VECTOR_CALL(sum_squares, piece.data, count, &sums[static_cast<std::size_t>(b)]);
    }
  });
  double total = 0;
  for (const double s : sums) total += s;
  return total;
}

template <class T>
void WidenedElementwise<T>::adamw(const AdamWStep& step, std::int64_t n, const float* gradient, float* first,
                                  float* second, T* value) {
  each_widened_piece(n, [&](std::int64_t i, std::int64_t count) {
    WidenedPiece x(value + i, count);
    KDLIB_VECTOR_CALL(adamw, step, count, gradient + i, first + i, second + i, x.data);
    narrow_values(count, x.data, value + i);
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
