// SPDX-License-Identifier: Apache-2.0
// Bodies of io/tensor_info.hpp without template parameters: element types by name, and a tensor's text and shape.
#ifndef KDLIB_IO_TENSOR_TEXT_INL_HPP
#define KDLIB_IO_TENSOR_TEXT_INL_HPP

#include <utility>

#include "kdlib/io/tensor_info.hpp"
#include "kdlib/io/utf8.hpp"

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
}  // namespace detail

KDLIB_FUNC const char* dtype_name(DType dtype) { return detail::dtype_table[static_cast<std::size_t>(dtype)].name; }

KDLIB_FUNC unsigned dtype_bits(DType dtype) { return detail::dtype_table[static_cast<std::size_t>(dtype)].bits; }

KDLIB_FUNC std::optional<DType> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < detail::dtype_table_size; ++i)
    if (name == detail::dtype_table[i].name) return static_cast<DType>(i);
  return std::nullopt;
}

KDLIB_FUNC std::uint64_t TensorInfo::count() const {
  std::uint64_t n = 1;
  for (const std::uint64_t extent : extents) n *= extent;
  return n;
}

KDLIB_FUNC std::string TensorInfo::text() const {
  std::string out =
      concat(file ? *file + ": " : std::string(), "tensor \"", printable(name), "\" (", dtype_name(dtype), " [");
  for (std::size_t i = 0; i < extents.size(); ++i) out += concat(i == 0 ? "" : ", ", extents[i]);
  return out + "])";
}

KDLIB_FUNC Shape TensorInfo::shape() const {
  require<ShapeError>(extents.size() <= Shape::max_rank, "[read] ", text(), " has ", extents.size(),
                      " axes, the limit is ", Shape::max_rank);
  Shape shape;
  for (const std::uint64_t extent : extents) {
    require<ShapeError>(std::in_range<std::int64_t>(extent), "[read] ", text(), ": an extent is beyond 2^63");
    shape.push_back(static_cast<std::int64_t>(extent));
  }
  return shape;
}

KDLIB_NAMESPACE_END

#endif
