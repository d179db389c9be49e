// SPDX-License-Identifier: Apache-2.0
// The packed weight that models use: codes and scales on a device, decoded where a product needs them.
#ifndef KDLIB_QUANT_CODED_MATRIX_HPP
#define KDLIB_QUANT_CODED_MATRIX_HPP

#include <cstdint>
#include <string>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/quant/coded_data.hpp"
#include "kdlib/quant/packed_matrix.hpp"

KDLIB_NAMESPACE_BEGIN

/// A frozen matrix whose codes are integers or four-bit floats with scales. Products read the codes.
template <class T, class D>
class CodedMatrix final : public PackedMatrix<T, D> {
 public:
  explicit CodedMatrix(const CodedData& data);

  /// Puts other codes of the same settings and size into the same memory. Throws ShapeError if they do not fit.
  void assign(const CodedData& data);
  /// Puts other scales, one for each group, into the same memory, and zeros if the format has them (else `zero` is
  /// empty). Throws ShapeError for other lengths, and if the scales are not stored as float numbers.
  void assign_factors(const std::vector<float>& scale, const std::vector<float>& zero);
  /// Reads the codes and scales back from the device.
  CodedData data() const;

  std::int64_t rows() const override { return ranges_.rows; }
  std::int64_t columns() const override { return ranges_.columns; }
  std::int64_t bytes() const override;
  std::string description() const override { return describe(settings_); }
  void decode(std::int64_t begin, std::int64_t count, T* out) const override {
    Kernels<D, T>::coded_decode(ranges_, begin, count, out);
  }
  void gather(const std::int32_t* ids, std::int64_t n, T* out) const override {
    Kernels<D, T>::coded_gather(ranges_, ids, n, out);
  }
  void multiply_few(std::int64_t m, const T* x, accumulate_t<T> beta, T* y) const override {
    Kernels<D, T>::coded_multiply_few(ranges_, m, x, beta, y);
  }
  std::int64_t few_rows() const override { return 24; }
  bool stays_on_device() const override { return true; }

  const CodedRanges& ranges() const { return ranges_; }
  const QuantizeSettings& settings() const { return settings_; }

 private:
  QuantizeSettings settings_;
  Tensor<std::uint8_t, D> codes_, small_scale_;
  Tensor<float, D> scale_, zero_, levels_, nested_map_, nested_scale_;
  CodedRanges ranges_;
};

KDLIB_NAMESPACE_END

#include "kdlib/quant/coded_matrix_inl.hpp"

#endif
