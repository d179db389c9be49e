// SPDX-License-Identifier: Apache-2.0
// What a linear function needs of a weight in a packed format: rows that are decoded on demand, and products.
#ifndef KDLIB_QUANT_PACKED_MATRIX_HPP
#define KDLIB_QUANT_PACKED_MATRIX_HPP

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// A frozen weight W [rows, columns] in a packed format. Each product takes one virtual call, not one for each element.
/// A format must implement the first seven functions. The other functions have bodies that use decode() and may be
/// replaced.
template <class T, class D>
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;

  virtual std::int64_t rows() const = 0;
  virtual std::int64_t columns() const = 0;
  /// Bytes that the codes and scales take.
  virtual std::int64_t bytes() const = 0;
  /// Describes the format, as in "int4 symmetric, group 64".
  virtual std::string description() const = 0;

  /// Writes rows [begin, begin + count), decoded, to out[count, columns].
  virtual void decode(std::int64_t begin, std::int64_t count, T* out) const = 0;
  /// Computes y[m, rows] = x[m, columns] W^T + beta * y for m <= few_rows() without a decoded copy of W in memory.
  virtual void multiply_few(std::int64_t m, const T* x, accumulate_t<T> beta, T* y) const = 0;
  /// The largest m for which multiply_few is made.
  virtual std::int64_t few_rows() const = 0;

  /// True if decode, products and gather read only memory of D and wait for nothing. Then graphs can hold them.
  virtual bool stays_on_device() const { return false; }

  /// Returns rows [begin, begin + count) if they lie in memory, in order, as values of T; else null. Products then use
  /// these rows like those of a weight that is not packed.
  virtual const T* values(std::int64_t, std::int64_t) const { return nullptr; }

  /// Computes y[m, count] (leading dimension ldy) = x[m, columns] W[begin, begin + count)^T + beta * y. For many rows
  /// of x, W is decoded panel by panel.
  virtual void multiply(std::int64_t begin, std::int64_t count, std::int64_t m, const T* x, accumulate_t<T> beta, T* y,
                        std::int64_t ldy) const;
  /// Computes x_gradient[m, columns] = y_gradient[m, count] (leading dimension ldy) W[begin, begin + count) + beta *
  /// x_gradient, panel by panel.
  virtual void multiply_back(std::int64_t begin, std::int64_t count, std::int64_t m, const T* y_gradient,
                             std::int64_t ldy, accumulate_t<T> beta, T* x_gradient) const;
  /// Writes the rows named by `ids` [n] to out[n, columns]. This body reads the ids on the host, to which it copies the
  /// ids of another device.
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
  /// Calls f(first row, number of rows, decoded rows) for panels of rows [begin, begin + count) of at most 4 Mi
  /// elements (16 MiB in float).
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

/// Takes the gradient of the values of a packed weight, for training through codes (nn/quantized_weight.hpp).
template <class T, class D>
class WeightGradient {
 public:
  virtual ~WeightGradient() = default;
  /// True if a gradient is needed.
  virtual bool wanted() const = 0;
  /// Returns a buffer [rows, columns] to which the whole gradient is added, or nullptr if the gradient must be given in
  /// panels of rows through add().
  virtual gradient_t<T>* target() = 0;
  /// Takes the gradient[count, columns] of rows [begin, begin + count). The buffer may be overwritten.
  virtual void add(std::int64_t begin, std::int64_t count, gradient_t<T>* gradient) = 0;
};

KDLIB_NAMESPACE_END

#endif
