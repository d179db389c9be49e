// SPDX-License-Identifier: Apache-2.0
// A weight that stays in its file, in its element type or block format. Rows are decoded where a product needs them.
#ifndef KDLIB_QUANT_STORED_MATRIX_HPP
#define KDLIB_QUANT_STORED_MATRIX_HPP

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/backend/concepts.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/quant/packed_matrix.hpp"

KDLIB_NAMESPACE_BEGIN

/// The data of a StoredMatrix: like StoredRanges, but with its own lists.
struct StoredParts {
  GgufType type = GgufType::f32;
  std::vector<const std::byte*> parts;  // each [rows / parts, columns] in `type`
  /// Empty, or for MXFP4 whose scales are stored apart one pointer for each part.
  std::vector<const std::byte*> scales;
  std::int64_t rows = 0, columns = 0;
  std::int64_t rotated_head = 0;  // see StoredRanges
  /// See StoredRanges.
  bool alternate = false;
};

/// A weight [rows, columns] in mapped memory. Its values equal those of decode_row, so products equal those with a
/// decoded copy up to the order of the sums. A product with one row of x reads the blocks directly.
template <class T, class D>
class StoredMatrix final : public PackedMatrix<T, D> {
 public:
  /// `owner` keeps the bytes alive. Throws ShapeError if the parts do not divide the rows or rows are not a whole
  /// number of blocks.
  StoredMatrix(StoredParts data, std::shared_ptr<const void> owner);

  std::int64_t rows() const override { return data_.rows; }
  std::int64_t columns() const override { return data_.columns; }
  std::int64_t bytes() const override {
    return data_.rows * (ranges_.row_bytes() + (data_.scales.empty() ? 0 : data_.columns / 32));
  }
  /// Describes the format, as in "Q4_1 in the file".
  std::string description() const override { return concat(gguf_type_name(data_.type), " in the file"); }
  void decode(std::int64_t begin, std::int64_t count, T* out) const override {
    Kernels<D, T>::stored_decode(ranges_, begin, count, out);
  }
  void multiply_few(std::int64_t m, const T* x, accumulate_t<T> beta, T* y) const override {
    Kernels<D, T>::stored_multiply(ranges_, 0, data_.rows, m, x, beta, y, data_.rows);
  }
  std::int64_t few_rows() const override { return 32; }
  void multiply(std::int64_t begin, std::int64_t count, std::int64_t m, const T* x, accumulate_t<T> beta, T* y,
                std::int64_t ldy) const override {
    Kernels<D, T>::stored_multiply(ranges_, begin, count, m, x, beta, y, ldy);
  }

  const T* values(std::int64_t begin, std::int64_t count) const override {
    if constexpr (std::is_same_v<D, Cpu>) return ranges_.values<T>(begin, count);
    else return nullptr;
  }

  const StoredRanges& ranges() const { return ranges_; }

 private:
  StoredParts data_;
  StoredRanges ranges_;
  std::shared_ptr<const void> owner_;
};

template <class T, class D>
StoredMatrix<T, D>::StoredMatrix(StoredParts data, std::shared_ptr<const void> owner)
    : data_(std::move(data)), owner_(std::move(owner)) {
  const auto parts = static_cast<std::int64_t>(data_.parts.size()),
             values = static_cast<std::int64_t>(block_size(data_.type));
  require<ShapeError>(
      parts > 0 && data_.rows % parts == 0 && values > 0 && data_.columns % values == 0 &&
          (data_.scales.empty() || (data_.type == GgufType::mxfp4 && data_.scales.size() == data_.parts.size())) &&
          (!data_.alternate || (parts == 2 && data_.scales.empty())),
      "[StoredMatrix] [", data_.rows, ", ", data_.columns, "] ", gguf_type_name(data_.type), " in ", parts,
      " parts with ", data_.scales.size(), " parts of scales");
  ranges_ = {data_.type,         data_.parts.data(), data_.scales.empty() ? nullptr : data_.scales.data(),
             data_.rows / parts, data_.rows,         data_.columns,
             data_.alternate,    data_.rotated_head};
}

KDLIB_NAMESPACE_END

#endif
