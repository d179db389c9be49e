// SPDX-License-Identifier: Apache-2.0
// Bodies of io/gguf_value.hpp.
#ifndef KDLIB_IO_GGUF_VALUE_INL_HPP
#define KDLIB_IO_GGUF_VALUE_INL_HPP

#include <bit>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include "kdlib/io/gguf_value.hpp"
#include "kdlib/io/utf8.hpp"

static_assert(std::endian::native == std::endian::little,
              "kdlib: GGUF files are little-endian and so must the machine be");

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr const char* gguf_kind_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                  "bool", "string", "array", "u64", "i64", "f64"};
inline constexpr std::uint32_t gguf_kind_count = 13;

/// Bytes of one value; 0 for strings and arrays.
KDLIB_FUNC std::uint64_t gguf_kind_bytes(GgufValue::Kind kind) {
  constexpr std::uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return bytes[static_cast<std::uint32_t>(kind)];
}
KDLIB_FUNC bool gguf_is_integer(GgufValue::Kind kind) {
  return gguf_kind_bytes(kind) != 0 && kind != GgufValue::Kind::f32 && kind != GgufValue::Kind::f64 &&
         kind != GgufValue::Kind::boolean;
}
KDLIB_FUNC bool gguf_is_number(GgufValue::Kind kind) {
  return gguf_is_integer(kind) || kind == GgufValue::Kind::f32 || kind == GgufValue::Kind::f64;
}

template <class T>
T load_unaligned(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Calls f with the number at `at` in its own type; kind must be a number.
template <class F>
void with_gguf_number(GgufValue::Kind kind, const std::byte* at, const F& f) {
  using Kind = GgufValue::Kind;
  switch (kind) {
    case Kind::u8:
      return f(load_unaligned<std::uint8_t>(at));
    case Kind::i8:
      return f(load_unaligned<std::int8_t>(at));
    case Kind::u16:
      return f(load_unaligned<std::uint16_t>(at));
    case Kind::i16:
      return f(load_unaligned<std::int16_t>(at));
    case Kind::u32:
      return f(load_unaligned<std::uint32_t>(at));
    case Kind::i32:
      return f(load_unaligned<std::int32_t>(at));
    case Kind::f32:
      return f(load_unaligned<float>(at));
    case Kind::u64:
      return f(load_unaligned<std::uint64_t>(at));
    case Kind::i64:
      return f(load_unaligned<std::int64_t>(at));
    case Kind::f64:
      return f(load_unaligned<double>(at));
    default:
      return;
  }
}

/// The integer at `at`; empty when T cannot hold it.
template <class T>
std::optional<T> gguf_integer(GgufValue::Kind kind, const std::byte* at) {
  std::optional<T> out;
  with_gguf_number(kind, at, [&](auto x) {
    if constexpr (std::is_integral_v<decltype(x)>) {
      if (std::in_range<T>(x)) out = static_cast<T>(x);
    }
  });
  return out;
}
KDLIB_FUNC double gguf_double(GgufValue::Kind kind, const std::byte* at) {
  double out = 0;
  with_gguf_number(kind, at, [&](auto x) { out = static_cast<double>(x); });
  return out;
}
}  // namespace detail

KDLIB_FUNC void GgufValue::refuse(const char* needed) const {
  const bool array = is_array();
  fail<FormatError>("[gguf] ", file_ ? *file_ : std::string("(no file)"), ": key \"", printable(key_), "\" holds ",
                    array ? "an array of " : "",
                    detail::gguf_kind_names[static_cast<std::uint32_t>(array ? element_kind_ : kind_)], ", ", needed,
                    " is needed");
}

KDLIB_FUNC bool GgufValue::as_bool() const {
  if (kind_ != Kind::boolean) refuse("a boolean");
  return data_[0] != std::byte{0};
}

KDLIB_FUNC std::int64_t GgufValue::as_int() const {
  if (!detail::gguf_is_integer(kind_)) refuse("an integer");
  const std::optional<std::int64_t> value = detail::gguf_integer<std::int64_t>(kind_, data_.data());
  if (!value) refuse("an integer below 2^63");
  return *value;
}

KDLIB_FUNC std::uint64_t GgufValue::as_uint() const {
  if (!detail::gguf_is_integer(kind_)) refuse("an integer");
  const std::optional<std::uint64_t> value = detail::gguf_integer<std::uint64_t>(kind_, data_.data());
  if (!value) refuse("an integer that is not negative");
  return *value;
}

KDLIB_FUNC double GgufValue::as_double() const {
  if (!detail::gguf_is_number(kind_)) refuse("a number");
  return detail::gguf_double(kind_, data_.data());
}

KDLIB_FUNC std::string_view GgufValue::as_string() const {
  if (kind_ != Kind::string) refuse("a string");
  return {reinterpret_cast<const char*>(data_.data()) + 8, data_.size() - 8};
}

KDLIB_FUNC void GgufValue::require_elements(bool fits, const char* needed) const {
  if (!is_array() || !fits) refuse(needed);
}

KDLIB_FUNC std::vector<std::string_view> GgufValue::as_strings() const {
  require_elements(element_kind_ == Kind::string, "an array of strings");
  std::vector<std::string_view> out;
  out.reserve(static_cast<std::size_t>(count_));
  const std::byte* at = data_.data();
  for (std::uint64_t i = 0; i < count_; ++i) {
    const auto length = static_cast<std::size_t>(detail::load_unaligned<std::uint64_t>(at));
    out.emplace_back(reinterpret_cast<const char*>(at) + 8, length);
    at += 8 + length;
  }
  return out;
}

KDLIB_FUNC std::vector<std::int64_t> GgufValue::as_ints() const {
  require_elements(detail::gguf_is_integer(element_kind_), "an array of integers");
  std::vector<std::int64_t> out;
  out.reserve(static_cast<std::size_t>(count_));
  for (std::uint64_t i = 0; i < count_; ++i) {
    const std::byte* at = data_.data() + i * detail::gguf_kind_bytes(element_kind_);
    const std::optional<std::int64_t> value = detail::gguf_integer<std::int64_t>(element_kind_, at);
    if (!value) refuse("an array of integers below 2^63");
    out.push_back(*value);
  }
  return out;
}

KDLIB_FUNC std::vector<double> GgufValue::as_doubles() const {
  require_elements(detail::gguf_is_number(element_kind_), "an array of numbers");
  std::vector<double> out(static_cast<std::size_t>(count_));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = detail::gguf_double(element_kind_, data_.data() + i * detail::gguf_kind_bytes(element_kind_));
  return out;
}

KDLIB_FUNC std::vector<bool> GgufValue::as_bools() const {
  require_elements(element_kind_ == Kind::boolean, "an array of booleans");
  std::vector<bool> out;
  for (const std::byte b : data_) out.push_back(b != std::byte{0});
  return out;
}

KDLIB_NAMESPACE_END

#endif
