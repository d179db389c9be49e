// SPDX-License-Identifier: Apache-2.0
// A tensor as a weight file holds it: name, element type, extents and bytes. And the way from those bytes to numbers.
#ifndef KDLIB_IO_TENSOR_INFO_HPP
#define KDLIB_IO_TENSOR_INFO_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/core/shape.hpp"

KDLIB_NAMESPACE_BEGIN

/// Name in safetensors headers: "F32", "BF16", "F8_E4M3", ...
const char* dtype_name(DType dtype);
/// The type of that name; empty when there is none.
std::optional<DType> parse_dtype(std::string_view name);
/// Bits of one element: 4 to 64.
unsigned dtype_bits(DType dtype);

/// One tensor of a mapped file. The bytes are little-endian, row-major, packed and perhaps not aligned: read them with
/// read_as or memcpy. They live as long as the file object that handed this out.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> extents;  // slowest first; empty: a scalar with one element. Any rank.
  std::span<const std::byte> data;
  std::shared_ptr<const std::string> file;  // path, for messages

  std::uint64_t count() const;
  /// ShapeError when the rank is above Shape::max_rank or an extent beyond int64.
  Shape shape() const;
  /// "model.safetensors: tensor \"a.weight\" (F32 [2, 3])", for messages.
  std::string text() const;
};

/// Converts all elements into `out` (exactly count() of them). To a floating-point type: from F64 F32 F16 BF16, the
/// integers and BOOL, rounded to nearest even (to 16 bits by way of float). To an integer type: from the integers and
/// BOOL, values out of range refused. ShapeError: `out` has another length. FormatError: the stored type cannot be read
/// as T.
template <class T>
void read_as(const TensorInfo& info, std::span<T> out);
template <class T>
std::vector<T> read_as(const TensorInfo& info) {
  std::vector<T> out(static_cast<std::size_t>(info.count()));
  read_as<T>(info, std::span<T>(out));
  return out;
}

KDLIB_NAMESPACE_END

#include "kdlib/io/tensor_info_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/io/tensor_text_inl.hpp"
#endif

#endif
