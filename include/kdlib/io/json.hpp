// SPDX-License-Identifier: Apache-2.0
// JSON texts as immutable values. RapidJSON does the reading; it stays out of this header.
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

/// One value of a parsed text: a handle of 24 bytes that keeps the whole text alive, cheap to copy. Members of an
/// object keep their order. Memory: the text itself plus 16 bytes for each value and each key. A value that is not what
/// the caller asks for throws FormatError: "[json] config.json: rope_scaling.factor is a string, a number is needed".
class Json {
 public:
  enum class Kind : std::uint8_t { null, boolean, int64, uint64, real, string, array, object };
  static constexpr unsigned max_depth = 200;  // arrays and objects in each other

  Json() = default;  // null

  /// Parses the whole text; `name` (a file, or file:line) opens every later message. The text is moved in and strings
  /// are decoded inside it. FormatError, with the byte offset: anything behind the value, invalid UTF-8, a lone
  /// surrogate escape, a key that occurs twice in one object, deeper than max_depth, NaN, Infinity, a number beyond
  /// double.
  static Json parse(std::string text, std::string name);
  /// Reads and parses a file.
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
  std::int64_t as_int() const;         // an integer literal within int64; 1.0 is refused
  std::uint64_t as_uint() const;       // an integer literal within uint64
  double as_double() const;            // any number
  std::string_view as_string() const;  // UTF-8, may hold zero bytes; lives as long as a handle on this text

  /// Elements of an array or members of an object; 0 for anything else.
  std::size_t size() const;
  /// Element of an array, or value of the i-th member of an object.
  Json operator[](std::size_t i) const;
  /// Name of the i-th member of an object.
  std::string_view key(std::size_t i) const;

  /// The member of that name: empty when there is none or when this is not an object.
  std::optional<Json> find(std::string_view key) const;
  /// The same, and empty for a member whose value is null too (as config.json writes "not set").
  std::optional<Json> find_set(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key).has_value(); }
  /// The member of that name, or FormatError "[json] config.json: rope_scaling.factor is missing".
  Json at(std::string_view key) const;

  /// The member as a plain type; `otherwise` when it is missing or null.
  bool bool_or(std::string_view key, bool otherwise) const;
  std::int64_t int_or(std::string_view key, std::int64_t otherwise) const;
  double double_or(std::string_view key, double otherwise) const;
  std::string string_or(std::string_view key, std::string_view otherwise) const;

  class Iterator;
  /// Elements of an array, or values of an object: `for (const Json& element : array)`.
  Iterator begin() const;
  Iterator end() const;
  /// `for (const auto& [key, value] : object.members())`.
  JsonMembers members() const;

  /// Where this value stands: "config.json: layers[3].kind". Found by a walk over the text: for messages.
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
