// SPDX-License-Identifier: Apache-2.0
// What a linear function needs of a weight that is kept in a packed format: rows decoded on demand, products with few rows.
#ifndef KDLIB_QUANT_PACKED_MATRIX_HPP
#define KDLIB_QUANT_PACKED_MATRIX_HPP

#include <cstdint>
#include <string>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// A frozen weight [rows, columns] in a packed format. One virtual call a product, not an element.
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
  virtual void multiply_few(std::int64_t m, const T* x, T beta, T* y) const = 0;
  /// Largest m that multiply_few is made for.
  virtual std::int64_t few_rows() const = 0;

  Tensor<T, D> decode_all() const {
    Tensor<T, D> out(Shape{rows(), columns()});
    decode(0, rows(), out.data());
    return out;
  }
};

/// Who takes the gradient of a packed weight's values: training through codes (nn/quantized_weight.hpp).
template <class T, class D>
class WeightGradient {
 public:
  virtual ~WeightGradient() = default;
  virtual bool wanted() const = 0;
  /// Where the whole gradient [rows, columns] may be added to as it is, or nullptr: it comes to add().
  virtual T* target() = 0;
  /// gradient[count, columns] of rows [begin, begin + count); it may be overwritten.
  virtual void add(std::int64_t begin, std::int64_t count, T* gradient) = 0;
};

KDLIB_NAMESPACE_END

#endif
