// SPDX-License-Identifier: Apache-2.0
// Templates of io/tensor_info.hpp. Functions without template parameters are in tensor_text_inl.hpp.
#ifndef KDLIB_IO_TENSOR_INFO_INL_HPP
#define KDLIB_IO_TENSOR_INFO_INL_HPP

#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "kdlib/io/tensor_info.hpp"
#include "kdlib/io/utf8.hpp"

static_assert(std::endian::native == std::endian::little,
              "kdlib: weight files are little-endian and so must the machine be");

KDLIB_NAMESPACE_BEGIN

namespace detail {
template <class T>
inline constexpr bool is_floating = Scalar<T>;

/// One element of type From, as T. False when T cannot hold it.
template <class T, class From>
bool convert_element(From x, T& out) {
  if constexpr (std::is_same_v<T, From>) {
    out = x;
  } else if constexpr (!is_floating<T>) {
    if (!std::in_range<T>(x)) return false;
    out = static_cast<T>(x);  // NOLINT(bugprone-signed-char-misuse): int8 is a number here
  } else if constexpr (std::is_arithmetic_v<From> && std::is_arithmetic_v<T>) {
    out = static_cast<T>(x);
  } else {
    out = T(static_cast<float>(x));
  }
  return true;
}

template <class T, class From>
void convert_elements(const TensorInfo& info, std::span<T> out) {
  if constexpr (!is_floating<T> && !std::is_integral_v<From>) {
    fail<FormatError>("[read] ", info.text(), " holds fractions, it cannot be read as integers");
  } else {
    if constexpr (std::is_same_v<T, From>) {
      if (!out.empty()) std::memcpy(out.data(), info.data.data(), info.data.size());
      return;
    }
    const std::byte* at = info.data.data();
    for (std::size_t i = 0; i < out.size(); ++i, at += sizeof(From)) {
      From x;
      std::memcpy(&x, at, sizeof x);
      if (!convert_element(x, out[i])) {
        fail<FormatError>("[read] ", info.text(), ": element ", i, " is ", static_cast<double>(x),
                          ", out of range of the type it is read as");
      }
    }
  }
}
}  // namespace detail

template <class T>
void read_as(const TensorInfo& info, std::span<T> out) {
  require<ShapeError>(out.size() == info.count(), "[read] ", info.text(), " has ", info.count(),
                      " elements, room is for ", out.size());
  require<ShapeError>(out.size() <= std::numeric_limits<std::size_t>::max() / 64 &&
                          info.data.size() == (out.size() * dtype_bits(info.dtype) + 7) / 8,
                      "[read] ", info.text(), " comes with ", info.data.size(), " bytes");
  switch (info.dtype) {
    case DType::f32:
      return detail::convert_elements<T, float>(info, out);
    case DType::f64:
      return detail::convert_elements<T, double>(info, out);
    case DType::f16:
      return detail::convert_elements<T, f16>(info, out);
    case DType::bf16:
      return detail::convert_elements<T, bf16>(info, out);
    case DType::i8:
      return detail::convert_elements<T, std::int8_t>(info, out);
    case DType::i16:
      return detail::convert_elements<T, std::int16_t>(info, out);
    case DType::i32:
      return detail::convert_elements<T, std::int32_t>(info, out);
    case DType::i64:
      return detail::convert_elements<T, std::int64_t>(info, out);
    case DType::boolean:
    case DType::u8:
      return detail::convert_elements<T, std::uint8_t>(info, out);
    case DType::u16:
      return detail::convert_elements<T, std::uint16_t>(info, out);
    case DType::u32:
      return detail::convert_elements<T, std::uint32_t>(info, out);
    case DType::u64:
      return detail::convert_elements<T, std::uint64_t>(info, out);
    default:
      fail<FormatError>("[read] ", info.text(),
                        ": this element type is not read as numbers yet; store it as F32, BF16 or U8");
  }
}

KDLIB_NAMESPACE_END

#endif
