// SPDX-License-Identifier: Apache-2.0
// JSON texts as immutable values. RapidJSON reads the text; this header does not include RapidJSON.
#ifndef KDLIB_IO_JSON_HPP
#define KDLIB_IO_JSON_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
struct JsonDocument;
struct JsonNode;
}  // namespace detail

struct JsonMember;
class JsonMembers;

/// One value of a parsed text: a handle of 24 bytes that is cheap to copy and keeps the whole text alive. Members of an
/// object keep their order. The parsed text takes its own size in memory plus 16 bytes for each value and each key.
/// Functions throw FormatError if the value is not of the kind that the caller asks for: "[json] config.json:
/// rope_scaling.factor is a string, a number is needed".
class Json {
 public:
  enum class Kind : std::uint8_t { null, boolean, int64, uint64, real, string, array, object };
  static constexpr unsigned max_depth = 200;  // levels of arrays and objects inside each other

  Json() = default;  // the value null

  /// Parses the whole text. `name` (a file, or file:line) opens every later message. The text is moved in and strings
  /// are decoded in place. Throws FormatError with the byte offset for text behind the value, invalid UTF-8, a lone
  /// surrogate escape, a key that occurs twice in one object, nesting deeper than max_depth, NaN, Infinity, and a
  /// number beyond the range of double.
  static Json parse(std::string text, std::string name);
  /// Reads and parses a file. Throws IoError if the file cannot be read.
  static Json parse_file(const std::string& path);

  Kind kind() const;
  bool is_null() const { return kind() == Kind::null; }
  bool is_bool() const { return kind() == Kind::boolean; }
  bool is_integer() const { return kind() == Kind::int64 || kind() == Kind::uint64; }
  bool is_number() const { return is_integer() || kind() == Kind::real; }
  bool is_string() const { return kind() == Kind::string; }
  bool is_array() const { return kind() == Kind::array; }
  bool is_object() const { return kind() == Kind::object; }

  bool as_bool() const;
  std::int64_t as_int() const;         // an integer literal that fits into int64; 1.0 is refused
  std::uint64_t as_uint() const;       // an integer literal that fits into uint64
  double as_double() const;            // any number
  std::string_view as_string() const;  // UTF-8, may hold zero bytes; lives while a handle on this text lives

  /// Number of elements of an array or members of an object; 0 for other kinds.
  std::size_t size() const;
  /// Returns element i of an array, or the value of member i of an object.
  Json operator[](std::size_t i) const;
  /// Returns the name of member i of an object.
  std::string_view key(std::size_t i) const;

  /// Returns the member of that name. Empty if there is no such member or this value is not an object.
  std::optional<Json> find(std::string_view key) const;
  /// Returns the same, but also empty if the member's value is null (config.json writes null for "not set").
  std::optional<Json> find_set(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key).has_value(); }
  /// Returns the member of that name, or throws FormatError "[json] config.json: rope_scaling.factor is missing".
  Json at(std::string_view key) const;

  /// Returns the member as a plain type, or `otherwise` if the member is missing or null.
  bool bool_or(std::string_view key, bool otherwise) const;
  std::int64_t int_or(std::string_view key, std::int64_t otherwise) const;
  double double_or(std::string_view key, double otherwise) const;
  std::string string_or(std::string_view key, std::string_view otherwise) const;

  class Iterator;
  /// Iterates over the elements of an array or the values of an object: `for (const Json& element : array)`.
  Iterator begin() const;
  Iterator end() const;
  /// Iterates over names and values of an object: `for (const auto& [key, value] : object.members())`.
  JsonMembers members() const;

  /// Returns the place of this value: "config.json: layers[3].kind". The place is searched in the whole text, so use
  /// this for messages only.
  std::string path() const;
  /// Throws FormatError "[json] <path> <problem>": `rope.at("factor").refuse("is 0, it must be positive")`.
  [[noreturn]] void refuse(std::string_view problem) const;

 private:
  friend class JsonMembers;
  Json(std::shared_ptr<const detail::JsonDocument> document, std::uint32_t node)
      : document_(std::move(document)), node_(node) {}
  const detail::JsonNode& node() const;
  [[noreturn]] void refuse_kind(const char* needed) const;

  std::shared_ptr<const detail::JsonDocument> document_;
  std::uint32_t node_ = 0;
};

/// Walks over the elements of an array or the values of an object.
class Json::Iterator {
 public:
  const Json& operator*() const { return at_; }
  const Json* operator->() const { return &at_; }
  Iterator& operator++() {
    at_.node_ += step_;
    return *this;
  }
  bool operator==(const Iterator& o) const { return at_.node_ == o.at_.node_; }

 private:
  friend class Json;
  friend class JsonMembers;
  Iterator(Json at, std::uint32_t step) : at_(std::move(at)), step_(step) {}
  Json at_;
  std::uint32_t step_;
};

/// One member of an object.
struct JsonMember {
  std::string_view key;
  Json value;
};

/// The members of an object in the order of the text.
class JsonMembers {
 public:
  class Iterator {
   public:
    JsonMember operator*() const;
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator==(const Iterator& o) const { return at_ == o.at_; }

   private:
    friend class JsonMembers;
    Iterator(const Json* object, std::size_t at) : object_(object), at_(at) {}
    const Json* object_;
    std::size_t at_;
  };
  explicit JsonMembers(Json object) : object_(std::move(object)) {}
  Iterator begin() const { return {&object_, 0}; }
  Iterator end() const { return {&object_, object_.size()}; }

 private:
  Json object_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/json_inl.hpp"
#endif

#endif
