// SPDX-License-Identifier: Apache-2.0
// Writes JSON texts: compact (one line, no spaces) or indented as in config.json.
#ifndef KDLIB_IO_JSON_WRITER_HPP
#define KDLIB_IO_JSON_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// What happens to NaN and infinities, which JSON cannot hold: FormatError, or the value null.
enum class NonFinite : std::uint8_t { refuse, null };

/// How JsonWriter lays out its text.
struct JsonStyle {
  int indent = 0;  // spaces for each level; 0: compact, on one line
  NonFinite non_finite = NonFinite::refuse;
};

/// Builds one JSON text. Calls follow each other in the order of the text:
///   JsonWriter json;
///   json.begin_object().member("rank", 16).key("targets").begin_array().value("q_proj").end_array().end_object();
///   write_file_atomically(path, json.text());
/// Floating-point numbers are written with the fewest digits that read back to the same double, and always with a point
/// or an exponent ("1.0"). Throws FormatError for NaN or infinity (unless NonFinite::null is set), for text that is not
/// UTF-8, for a missing or an extra key, and if text() is called before everything is closed.
class JsonWriter {
 public:
  explicit JsonWriter(JsonStyle style = {}) : style_(style) {}

  JsonWriter& begin_object() { return begin('{'); }
  JsonWriter& end_object() { return end('}'); }
  JsonWriter& begin_array() { return begin('['); }
  JsonWriter& end_array() { return end(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& null();
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  template <class T>
  requires std::is_arithmetic_v<T> JsonWriter& value(T number) {
    if constexpr (std::is_same_v<T, bool>) return boolean(number);
    else if constexpr (std::is_floating_point_v<T>) return real(static_cast<double>(number));
    else if constexpr (std::is_signed_v<T>) return integer(static_cast<std::int64_t>(number));
    else return natural(static_cast<std::uint64_t>(number));
  }
  /// Writes any container of values as an array.
  template <class List>
  requires(!std::is_arithmetic_v<List> &&
           !std::is_convertible_v<const List&, std::string_view>) JsonWriter& value(const List& list) {
    begin_array();
    for (const auto& element : list) value(element);
    return end_array();
  }

  /// Writes key(name) and value(v).
  template <class T>
  JsonWriter& member(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }

  /// Writes a value that is JSON text already. The text is not checked.
  JsonWriter& raw(std::string_view json);

  /// Returns the finished text. An indented text ends with a line feed.
  const std::string& text();

 private:
  JsonWriter& begin(char bracket);
  JsonWriter& end(char bracket);
  JsonWriter& boolean(bool b);
  JsonWriter& integer(std::int64_t i);
  JsonWriter& natural(std::uint64_t u);
  JsonWriter& real(double d);
  void before_value();
  void new_line();
  void quote(std::string_view text);

  JsonStyle style_;
  std::string out_;
  std::string open_;  // '{' and '[' that are not closed yet
  bool first_ = true, has_key_ = false, done_ = false;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/json_writer_inl.hpp"
#endif

#endif
