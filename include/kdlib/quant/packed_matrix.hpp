// SPDX-License-Identifier: Apache-2.0
// What a linear function needs of a weight that is kept in a packed format: rows decoded on demand, and products.
#ifndef KDLIB_QUANT_PACKED_MATRIX_HPP
#define KDLIB_QUANT_PACKED_MATRIX_HPP

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// A frozen weight [rows, columns] in a packed format. One virtual call a product, not an element. A format must give
/// the first six functions; the others have bodies that use decode() and may be replaced.
template <class T, class D>
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;

  virtual std::int64_t rows() const = 0;
  virtual std::int64_t columns() const = 0;
  /// Bytes of codes and scales.
  virtual std::int64_t bytes() const = 0;
  /// "int4 symmetric, group 64"
  virtual std::string description() const = 0;

  /// out[count, columns] = rows [begin, begin + count), decoded.
  virtual void decode(std::int64_t begin, std::int64_t count, T* out) const = 0;
  /// y[m, rows] = x[m, columns] W^T + beta * y for m <= few_rows() without a decoded copy of W in memory.
  virtual void multiply_few(std::int64_t m, const T* x, accumulate_t<T> beta, T* y) const = 0;
  /// Largest m that multiply_few is made for.
  virtual std::int64_t few_rows() const = 0;

  /// True where decode, products and gather read memory of D alone and wait for nothing: graphs can hold them.
  virtual bool stays_on_device() const { return false; }

  /// Rows [begin, begin + count) where they lie in memory in order as values of T, else null. Products then read them
  /// as those of a weight that is not packed.
  virtual const T* values(std::int64_t, std::int64_t) const { return nullptr; }

  /// y[m, count] (leading dimension ldy) = x[m, columns] W[begin, begin + count)^T + beta * y, decoded by panels for
  /// many rows of x.
  virtual void multiply(std::int64_t begin, std::int64_t count, std::int64_t m, const T* x, accumulate_t<T> beta, T* y,
                        std::int64_t ldy) const;
  /// x_gradient[m, columns] = y_gradient[m, count] (leading dimension ldy) W[begin, begin + count) + beta * x_gradient,
  /// by panels.
  virtual void multiply_back(std::int64_t begin, std::int64_t count, std::int64_t m, const T* y_gradient,
                             std::int64_t ldy, accumulate_t<T> beta, T* x_gradient) const;
  /// out[n, columns] = the rows named by `ids` [n]; this body reads ids on the host, to which it copies those of
  /// another device.
  virtual void gather(const std::int32_t* ids, std::int64_t n, T* out) const {
    std::vector<std::int32_t> copy;
    if constexpr (!std::is_same_v<D, Cpu>) {
      copy = host_copy(View<const std::int32_t, D>(ids, Shape{n}));
      ids = copy.data();
    }
    for (std::int64_t i = 0; i < n; ++i) decode(ids[i], 1, out + i * columns());
  }

  Tensor<T, D> decode_all() const {
    Tensor<T, D> out(Shape{rows(), columns()});
    decode(0, rows(), out.data());
    return out;
  }

 protected:
  /// Calls f(first row, rows, decoded rows) for panels of [begin, begin + count) of at most 4 Mi elements (16 MiB in
  /// float).
  template <class F>
  void each_panel(std::int64_t begin, std::int64_t count, F&& f) const;
};

template <class T, class D>
template <class F>
void PackedMatrix<T, D>::each_panel(std::int64_t begin, std::int64_t count, F&& f) const {
  constexpr std::int64_t elements = 1 << 22;
  const std::int64_t most = elements > columns() ? elements / columns() : 1, panel = most < count ? most : count;
  const T* plain = values(begin, count);
  const Buffer<T, D> scratch(plain == nullptr ? panel * columns() : 0);
  for (std::int64_t row = begin; row < begin + count; row += panel) {
    const std::int64_t rows = begin + count - row < panel ? begin + count - row : panel;
    if (plain == nullptr) decode(row, rows, scratch.data());
    f(row, rows, plain == nullptr ? static_cast<const T*>(scratch.data()) : plain + (row - begin) * columns());
  }
}

template <class T, class D>
void PackedMatrix<T, D>::multiply(std::int64_t begin, std::int64_t count, std::int64_t m, const T* x,
                                  accumulate_t<T> beta, T* y, std::int64_t ldy) const {
  if (begin == 0 && count == rows() && ldy == count && m <= few_rows()) return multiply_few(m, x, beta, y);
  each_panel(begin, count, [&](std::int64_t row, std::int64_t n, const T* w) {
    Kernels<D, T>::gemm(false, true, m, n, columns(), 1, x, columns(), w, columns(), beta, y + (row - begin), ldy);
  });
}

template <class T, class D>
void PackedMatrix<T, D>::multiply_back(std::int64_t begin, std::int64_t count, std::int64_t m, const T* y_gradient,
                                       std::int64_t ldy, accumulate_t<T> beta, T* x_gradient) const {
  if constexpr (HasMixedMatmul<D, T>) {
    if (const T* w = values(begin, count))
      return Kernels<D, T>::gemm(false, false, m, columns(), count, 1, y_gradient, ldy, w, columns(), beta, x_gradient,
                                 columns());
    // Panels add in float, so that the result is rounded once.
    const Buffer<accumulate_t<T>, D> sum(m * columns());
    if (beta != 0) Kernels<D, T>::widen(m * columns(), x_gradient, sum.data());
    each_panel(begin, count, [&](std::int64_t row, std::int64_t n, const T* w) {
      Kernels<D, T>::gemm(false, false, m, columns(), n, 1, y_gradient + (row - begin), ldy, w, columns(),
                          row == begin ? beta : 1, sum.data(), columns());
    });
    return Kernels<D, T>::narrow(m * columns(), sum.data(), x_gradient);
  }
  each_panel(begin, count, [&](std::int64_t row, std::int64_t n, const T* w) {
    Kernels<D, T>::gemm(false, false, m, columns(), n, 1, y_gradient + (row - begin), ldy, w, columns(),
                        row == begin ? beta : 1, x_gradient, columns());
  });
}

/// Who takes the gradient of a packed weight's values: training through codes (nn/quantized_weight.hpp).
template <class T, class D>
class WeightGradient {
 public:
  virtual ~WeightGradient() = default;
  virtual bool wanted() const = 0;
  /// Where the whole gradient [rows, columns] may be added to as it is, or nullptr: it comes to add().
  virtual gradient_t<T>* target() = 0;
  /// gradient[count, columns] of rows [begin, begin + count); it may be overwritten.
  virtual void add(std::int64_t begin, std::int64_t count, gradient_t<T>* gradient) = 0;
};

KDLIB_NAMESPACE_END

#endif
