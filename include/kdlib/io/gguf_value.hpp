// SPDX-License-Identifier: Apache-2.0
// One value of the metadata of a GGUF file.
#ifndef KDLIB_IO_GGUF_VALUE_HPP
#define KDLIB_IO_GGUF_VALUE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
class GgufParser;
}

/// One metadata value. The object points into the mapped file, which was checked when it was opened; texts that it
/// returns live as long as the file. The as_... functions throw FormatError if the value is of another kind. The error
/// names the file, the key, the kind of the value and the kind that is needed.
class GgufValue {
 public:
  enum class Kind : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

  std::string_view key() const { return key_; }
  Kind kind() const { return kind_; }
  Kind element_kind() const { return element_kind_; }  // kind of the elements of an array
  bool is_array() const { return kind_ == Kind::array; }
  std::uint64_t size() const { return is_array() ? count_ : 1; }  // number of elements; 1 if not an array
  std::span<const std::byte> bytes() const { return data_; }      // of the value or of all elements, as in the file

  bool as_bool() const;
  std::int64_t as_int() const;         // any kind of integer that fits into int64
  std::uint64_t as_uint() const;       // any kind of integer that is not negative
  double as_double() const;            // any number
  std::string_view as_string() const;  // the bytes as stored: UTF-8 by convention, not checked here

  std::vector<std::string_view> as_strings() const;  // array of strings
  std::vector<std::int64_t> as_ints() const;         // array of integers
  std::vector<double> as_doubles() const;            // array of numbers
  std::vector<bool> as_bools() const;                // array of booleans

 private:
  friend class detail::GgufParser;
  [[noreturn]] void refuse(const char* needed) const;
  void require_elements(bool fits, const char* needed) const;

  std::string_view key_;
  Kind kind_ = Kind::u8, element_kind_ = Kind::u8;
  std::uint64_t count_ = 0;
  std::span<const std::byte> data_;  // of a scalar or of all elements
  std::shared_ptr<const std::string> file_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/gguf_value_inl.hpp"
#endif

#endif
