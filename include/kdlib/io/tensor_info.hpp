// SPDX-License-Identifier: Apache-2.0
// A tensor as a weight file holds it (name, element type, extents and bytes), and functions that convert its bytes to
// numbers.
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

/// The name of the type in safetensors headers: "F32", "BF16", "F8_E4M3", ...
const char* dtype_name(DType dtype);
/// Returns the type of that name. Empty if there is no such type.
std::optional<DType> parse_dtype(std::string_view name);
/// Bits of one element: 4 to 64.
unsigned dtype_bits(DType dtype);

/// One tensor of a mapped file. The bytes are little-endian, row-major, packed and perhaps not aligned: read them with
/// read_as or memcpy. They live as long as the file object that returned this TensorInfo.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> extents;  // slowest first, any rank; empty for a scalar, which has one element
  std::span<const std::byte> data;
  std::shared_ptr<const std::string> file;  // path of the file, for messages

  /// Number of elements.
  std::uint64_t count() const;
  /// Throws ShapeError if the rank is above Shape::max_rank or an extent is beyond int64.
  Shape shape() const;
  /// Describes the tensor for messages: "model.safetensors: tensor \"a.weight\" (F32 [2, 3])".
  std::string text() const;
};

/// Converts all elements into `out`, which must have count() elements. A floating-point T is read from F64, F32, F16,
/// BF16, the integer types and BOOL and is rounded to nearest even (a 16-bit T by way of float). An integer T is read
/// from the integer types and BOOL. Throws ShapeError if `out` has another length. Throws FormatError if the stored
/// type cannot be read as T, or if a value is out of the range of an integer T.
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
