// SPDX-License-Identifier: Apache-2.0
// Bodies of io/tensor_info.hpp.
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
struct DTypeRow {
  const char* name;
  unsigned bits;
};
/// In the order of DType, which is the rank by which a safetensors writer sorts.
inline constexpr DTypeRow dtype_table[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
inline constexpr std::size_t dtype_table_size = sizeof dtype_table / sizeof dtype_table[0];
static_assert(dtype_table_size == static_cast<std::size_t>(DType::u64) + 1);

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

inline const char* dtype_name(DType dtype) { return detail::dtype_table[static_cast<std::size_t>(dtype)].name; }

inline unsigned dtype_bits(DType dtype) { return detail::dtype_table[static_cast<std::size_t>(dtype)].bits; }

inline std::optional<DType> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < detail::dtype_table_size; ++i)
    if (name == detail::dtype_table[i].name) return static_cast<DType>(i);
  return std::nullopt;
}

inline std::uint64_t TensorInfo::count() const {
  std::uint64_t n = 1;
  for (const std::uint64_t extent : extents) n *= extent;
  return n;
}

inline std::string TensorInfo::text() const {
  std::string out =
      concat(file ? *file + ": " : std::string(), "tensor \"", printable(name), "\" (", dtype_name(dtype), " [");
  for (std::size_t i = 0; i < extents.size(); ++i) out += concat(i == 0 ? "" : ", ", extents[i]);
  return out + "])";
}

inline Shape TensorInfo::shape() const {
  require<ShapeError>(extents.size() <= Shape::max_rank, "[read] ", text(), " has ", extents.size(),
                      " axes, the limit is ", Shape::max_rank);
  Shape shape;
  for (const std::uint64_t extent : extents) {
    require<ShapeError>(std::in_range<std::int64_t>(extent), "[read] ", text(), ": an extent is beyond 2^63");
    shape.push_back(static_cast<std::int64_t>(extent));
  }
  return shape;
}

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
