// SPDX-License-Identifier: Apache-2.0
// Bodies of coded_matrix.hpp.
#ifndef KDLIB_QUANT_CODED_MATRIX_INL_HPP
#define KDLIB_QUANT_CODED_MATRIX_INL_HPP

#include "kdlib/quant/coded_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t coded_padding = 64;  // bytes behind what kernels read in whole vectors

/// A tensor for `count` elements and the padding, which is 0.
template <class E, class D>
Tensor<E, D> padded_tensor(std::size_t count) {
  return count == 0 ? Tensor<E, D>()
                    : Tensor<E, D>::zeros(Shape{static_cast<std::int64_t>(count) +
                                                coded_padding / static_cast<std::int64_t>(sizeof(E))});
}
template <class E, class D>
void put_padded(Tensor<E, D>& to, const std::vector<E>& from) {
  if (!from.empty()) Memory<D>::from_host(to.data(), from.data(), from.size() * sizeof(E));
}
template <class E, class D>
std::vector<E> take_padded(const Tensor<E, D>& from) {
  std::vector<E> out(from ? static_cast<std::size_t>(from.count()) - coded_padding / sizeof(E) : 0);
  if (!out.empty()) Memory<D>::to_host(out.data(), from.data(), out.size() * sizeof(E));
  return out;
}

}  // namespace detail

template <class T, class D>
CodedMatrix<T, D>::CodedMatrix(const CodedData& data)
    : settings_(data.settings),
      codes_(detail::padded_tensor<std::uint8_t, D>(data.codes.size())),
      small_scale_(detail::padded_tensor<std::uint8_t, D>(data.small_scale.size())),
      scale_(detail::padded_tensor<float, D>(data.scale.size())),
      zero_(detail::padded_tensor<float, D>(data.zero.size())),
      nested_map_(detail::padded_tensor<float, D>(data.nested_map.size())),
      nested_scale_(detail::padded_tensor<float, D>(data.nested_scale.size())) {
  if (data.bits() != 8) {
    const std::array<float, 16> levels = code_levels(settings_.kind);
    levels_ = Tensor<float, D>(Shape{16});
    Memory<D>::from_host(levels_.data(), levels.data(), sizeof levels);
  }
  const auto pointer = [](const auto& t) { return t ? t.data() : nullptr; };
  ranges_.codes = codes_.data();
  ranges_.levels = pointer(levels_);
  ranges_.scale = pointer(scale_);
  ranges_.small_scale = pointer(small_scale_);
  ranges_.nested_map = pointer(nested_map_);
  ranges_.nested_scale = pointer(nested_scale_);
  ranges_.zero = pointer(zero_);
  ranges_.rows = data.rows;
  ranges_.columns = data.columns;
  ranges_.group = settings_.group_size;
  ranges_.bits = data.bits();
  ranges_.shifted = settings_.rule == Int4Rule::asymmetric;
  ranges_.crossing = data.crossing();
  assign(data);
}

template <class T, class D>
void CodedMatrix<T, D>::assign(const CodedData& data) {
  const auto groups = static_cast<std::size_t>(ranges_.groups());
  const std::size_t scales = data.scale.empty() ? data.small_scale.size() : data.scale.size();
  require<ShapeError>(
      data.rows == ranges_.rows && data.columns == ranges_.columns && describe(data.settings) == describe(settings_) &&
          scales == groups && data.codes.size() == static_cast<std::size_t>(ranges_.rows * ranges_.row_bytes()),
      "[CodedMatrix] ", data.codes.size(), " bytes of codes and ", scales, " scales (", describe(data.settings),
      ") for [", ranges_.rows, ", ", ranges_.columns, "], ", describe(settings_));
  detail::put_padded(codes_, data.codes);
  detail::put_padded(small_scale_, data.small_scale);
  detail::put_padded(scale_, data.scale);
  detail::put_padded(zero_, data.zero);
  detail::put_padded(nested_map_, data.nested_map);
  detail::put_padded(nested_scale_, data.nested_scale);
  ranges_.nested_offset = data.nested_offset;
}

template <class T, class D>
void CodedMatrix<T, D>::assign_factors(const std::vector<float>& scale, const std::vector<float>& zero) {
  const auto groups = static_cast<std::size_t>(ranges_.groups());
  require<ShapeError>(scale_ && scale.size() == groups && zero.size() == (zero_ ? groups : 0), "[CodedMatrix] ",
                      scale.size(), " scales and ", zero.size(), " zeros for ", groups, " groups of ",
                      describe(settings_));
  detail::put_padded(scale_, scale);
  detail::put_padded(zero_, zero);
}

template <class T, class D>
CodedData CodedMatrix<T, D>::data() const {
  CodedData out;
  out.settings = settings_;
  out.rows = ranges_.rows;
  out.columns = ranges_.columns;
  out.codes = detail::take_padded(codes_);
  out.small_scale = detail::take_padded(small_scale_);
  out.scale = detail::take_padded(scale_);
  out.zero = detail::take_padded(zero_);
  out.nested_map = detail::take_padded(nested_map_);
  out.nested_scale = detail::take_padded(nested_scale_);
  out.nested_offset = ranges_.nested_offset;
  return out;
}

template <class T, class D>
std::int64_t CodedMatrix<T, D>::bytes() const {
  const std::int64_t groups = ranges_.groups(), real = static_cast<std::int64_t>(sizeof(float));
  std::int64_t n = ranges_.rows * ranges_.row_bytes() + (ranges_.scale != nullptr ? groups * real : groups) +
                   (ranges_.zero != nullptr ? groups * real : 0);
  if (ranges_.nested_map != nullptr) n += (groups + 255) / 256 * real + real;
  return n;
}

KDLIB_NAMESPACE_END

#endif
