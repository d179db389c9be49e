// SPDX-License-Identifier: Apache-2.0
// Weights in four bits, one scale for each group of columns: encoding by two rules, storage, and the matrix that models use.
#ifndef KDLIB_QUANT_INT4_GROUP_HPP
#define KDLIB_QUANT_INT4_GROUP_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/quant/packed_matrix.hpp"

KDLIB_NAMESPACE_BEGIN

/// How codes -8..7 are chosen in a group; amax = largest |w|, lo and hi the smallest and largest w. RNE = to nearest, ties to even.
enum class Int4Rule : std::uint8_t {
  symmetric,  // scale = max(amax / 7.5, smallest normal float), q = clamp(RNE(w * (1 / scale)), -8, 7), value = q * scale
  affine      // scale = max(hi - lo, 1e-6) / 15, zero = lo + 8 scale, q = clamp(RNE((w - lo) / scale), 0, 15) - 8, value = q * scale + zero
};
const char* int4_rule_name(Int4Rule rule);

/// A packed weight on the host: codes [rows, columns / 2] (even column in the low nibble, two's complement), scale and zero [rows,
/// columns / group] in float; zero is empty for the symmetric rule.
struct Int4Data {
  std::vector<std::uint8_t> codes;
  std::vector<float> scale, zero;
};

/// Encodes w [rows, columns], each step rounded to float. ConfigError: group is not even and positive, or does not divide columns;
/// FormatError: a weight is not finite.
Int4Data encode_int4(const float* w, std::int64_t rows, std::int64_t columns, std::int64_t group, Int4Rule rule);

/// The packed weight on a device.
template <class T, class D>
class Int4Matrix final : public PackedMatrix<T, D> {
 public:
  /// `data` as encode_int4 makes it.
  Int4Matrix(const Int4Data& data, std::int64_t rows, std::int64_t columns, std::int64_t group);

  std::int64_t rows() const override { return ranges_.rows; }
  std::int64_t columns() const override { return ranges_.columns; }
  std::int64_t bytes() const override { return codes_.bytes() + scale_.bytes() + zero_.bytes(); }
  std::string description() const override;
  void decode(std::int64_t begin, std::int64_t count, T* out) const override { Kernels<D, T>::int4_decode(ranges_, begin, count, out); }
  void multiply_few(std::int64_t m, const T* x, T beta, T* y) const override { Kernels<D, T>::int4_multiply_few(ranges_, m, x, beta, y); }
  std::int64_t few_rows() const override { return 24; }

  const Int4Ranges& ranges() const { return ranges_; }

 private:
  Tensor<std::uint8_t, D> codes_;
  Tensor<float, D> scale_, zero_;
  Int4Ranges ranges_;
};

KDLIB_NAMESPACE_END

#include "kdlib/quant/int4_group_inl.hpp"

#endif
