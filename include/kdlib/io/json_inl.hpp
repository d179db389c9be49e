// SPDX-License-Identifier: Apache-2.0
// Bodies of io/json.hpp. RapidJSON reads in place (strings are decoded inside the text); its events become an array of
// nodes in which the children of a value lie side by side.
#ifndef KDLIB_IO_JSON_INL_HPP
#define KDLIB_IO_JSON_INL_HPP

#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <vector>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

struct JsonChildren {
  std::uint32_t first;  // node of the first element, or of the first key: an object has key, value, key, value, ...
  std::uint32_t order;  // where the sorted order of the keys begins, if the object has one
};

struct JsonNode {
  Json::Kind kind = Json::Kind::null;
  std::uint32_t size = 0;  // bytes of a string, elements, members
  union {
    std::uint64_t u = 0;  // also: bool, offset of a string
    std::int64_t i;
    double d;
    JsonChildren children;
  };
};
static_assert(sizeof(JsonNode) == 16);

struct JsonDocument {
  std::string name, text;
  std::vector<JsonNode> nodes;       // the root is the last one
  std::vector<std::uint32_t> order;  // of objects with many members: member numbers sorted by key
  std::string_view text_of(const JsonNode& n) const { return std::string_view(text).substr(n.u, n.size); }
};

/// Objects up to this many members are searched one by one.
inline constexpr std::uint32_t json_linear_members = 8;

/// Takes the reader's events. Children wait on a stack until their array or object ends.
class JsonBuilder {
 public:
  explicit JsonBuilder(JsonDocument& document) : document_(document) {}

  bool Null() { return add(Json::Kind::null); }
  bool Bool(bool b) { return add(Json::Kind::boolean, b ? 1u : 0u); }
  bool Int(int) { return false; }  // the reader hands numbers over as text
  bool Uint(unsigned) { return false; }
  bool Int64(std::int64_t) { return false; }
  bool Uint64(std::uint64_t) { return false; }
  bool Double(double) { return false; }
  bool RawNumber(const char* s, rapidjson::SizeType length, bool);
  bool Key(const char* s, rapidjson::SizeType length, bool copy) { return String(s, length, copy); }
  bool String(const char* s, rapidjson::SizeType length, bool);
  bool StartObject() { return open(); }
  bool StartArray() { return open(); }
  bool EndObject(rapidjson::SizeType members) { return close(Json::Kind::object, members); }
  bool EndArray(rapidjson::SizeType elements) { return close(Json::Kind::array, elements); }

  /// Puts the root behind all other nodes.
  void finish() {
    document_.nodes.push_back(stack_.back());
    document_.nodes.shrink_to_fit();
  }
  const std::string& problem() const { return problem_; }

 private:
  bool add(Json::Kind kind, std::uint64_t bits = 0, std::uint32_t size = 0) {
    JsonNode n;
    n.kind = kind;
    n.size = size;
    n.u = bits;
    return add(n);
  }
  bool add(const JsonNode& n) {
    stack_.push_back(n);
    return true;
  }
  bool open() {
    if (++depth_ <= Json::max_depth) return true;
    problem_ = concat("arrays and objects lie more than ", Json::max_depth, " deep in each other");
    return false;
  }
  bool close(Json::Kind kind, std::uint32_t size);
  bool order_keys(std::uint32_t first, std::uint32_t members);
  bool refuse_twice(std::uint32_t key_node);

  JsonDocument& document_;
  std::vector<JsonNode> stack_;
  std::string problem_;
  unsigned depth_ = 0;
};

/// True when a number that double cannot hold is too small rather than too large: its first significant digit stands
/// behind the decimal point, the exponent counted in.
KDLIB_FUNC bool json_underflows(std::string_view number) {
  const std::size_t mark = number.find_first_of("eE");
  const std::string_view digits = number.substr(number[0] == '-' ? 1 : 0, mark - (number[0] == '-' ? 1 : 0));
  if (mark != std::string_view::npos && number.size() - mark > 9)
    return number[mark + 1] == '-';  // the exponent alone decides
  long exponent = 0;
  if (mark != std::string_view::npos) {
    const std::size_t begin = mark + (number[mark + 1] == '+' ? 2 : 1);
    std::from_chars(number.data() + begin, number.data() + number.size(), exponent);
  }
  const std::size_t point = std::min(digits.find('.'), digits.size());
  const std::size_t first = digits.find_first_not_of("0.");
  return static_cast<long>(point) - static_cast<long>(first) + exponent < 0;
}

/// The grammar is checked by the reader; its own conversion is not used because it has undefined behaviour for "0e5".
KDLIB_FUNC bool JsonBuilder::RawNumber(const char* s, rapidjson::SizeType length, bool) {
  const char* end = s + length;
  JsonNode n;
  if (std::string_view(s, length).find_first_of(".eE") == std::string_view::npos) {
    n.kind = Json::Kind::int64;
    if (std::from_chars(s, end, n.i).ec == std::errc()) return add(n);
    n.kind = Json::Kind::uint64;
    if (*s != '-' && std::from_chars(s, end, n.u).ec == std::errc()) return add(n);
  }
  n.kind = Json::Kind::real;
  n.d = 0.0;
  if (std::from_chars(s, end, n.d).ec == std::errc()) return add(n);
  if (json_underflows({s, length})) {
    n.d = *s == '-' ? -0.0 : 0.0;
    return add(n);
  }
  problem_ = "the number is beyond the range of double";
  return false;
}

KDLIB_FUNC bool JsonBuilder::String(const char* s, rapidjson::SizeType length, bool) {
  // The text is valid UTF-8, but RapidJSON 1.1 encodes a lone \uDC00..\uDFFF escape into ED xx xx without complaint.
  if (std::memchr(s, 0xED, length) != nullptr && find_invalid_utf8({s, length}) != std::string_view::npos) {
    problem_ = "a string holds one half of a surrogate pair (\\uDC00 to \\uDFFF alone)";
    return false;
  }
  return add(Json::Kind::string, static_cast<std::uint64_t>(s - document_.text.data()), length);
}

KDLIB_FUNC bool JsonBuilder::close(Json::Kind kind, std::uint32_t size) {
  --depth_;
  const std::size_t children = std::size_t{size} * (kind == Json::Kind::object ? 2 : 1);
  std::vector<JsonNode>& nodes = document_.nodes;
  JsonNode n;
  n.kind = kind;
  n.size = size;
  n.children = {static_cast<std::uint32_t>(nodes.size()), static_cast<std::uint32_t>(document_.order.size())};
  nodes.insert(nodes.end(), stack_.end() - static_cast<std::ptrdiff_t>(children), stack_.end());
  stack_.resize(stack_.size() - children);
  if (kind == Json::Kind::object && !order_keys(n.children.first, size)) return false;
  stack_.push_back(n);
  return true;
}

KDLIB_FUNC bool JsonBuilder::refuse_twice(std::uint32_t key_node) {
  problem_ =
      concat("the key \"", printable(document_.text_of(document_.nodes[key_node])), "\" occurs twice in one object");
  return false;
}

/// Refuses keys that occur twice; sorts the keys of a large object for find().
KDLIB_FUNC bool JsonBuilder::order_keys(std::uint32_t first, std::uint32_t members) {
  const auto key = [&](std::uint32_t i) { return document_.text_of(document_.nodes[first + 2 * i]); };
  if (members <= json_linear_members) {
    for (std::uint32_t i = 1; i < members; ++i)
      for (std::uint32_t j = 0; j < i; ++j)
        if (key(i) == key(j)) return refuse_twice(first + 2 * i);
    return true;
  }
  struct Entry {
    std::uint64_t front;  // the first eight bytes, so that most comparisons stay in this array
    std::uint32_t member;
  };
  std::vector<Entry> entries(members);
  for (std::uint32_t i = 0; i < members; ++i) {
    std::uint64_t front = 0;
    const std::string_view k = key(i);
    for (std::size_t b = 0; b < 8; ++b) front = front << 8 | (b < k.size() ? static_cast<unsigned char>(k[b]) : 0u);
    entries[i] = {front, i};
  }
  std::sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) {
    return a.front != b.front ? a.front < b.front : key(a.member) < key(b.member);
  });
  for (std::uint32_t i = 0; i < members; ++i) {
    if (i > 0 && key(entries[i - 1].member) == key(entries[i].member))
      return refuse_twice(first + 2 * entries[i].member);
    document_.order.push_back(entries[i].member);
  }
  return true;
}

inline constexpr const char* json_kind_names[] = {"null",     "a boolean", "an integer", "an integer",
                                                  "a number", "a string",  "an array",   "an object"};

/// Adds the way from node `at` down to node `target` to `path`; false when it is not below.
KDLIB_FUNC bool json_path(const JsonDocument& document, std::uint32_t at, std::uint32_t target, std::string& path) {
  if (at == target) return true;
  const JsonNode& n = document.nodes[at];
  const bool object = n.kind == Json::Kind::object;
  if (!object && n.kind != Json::Kind::array) return false;
  for (std::uint32_t i = 0; i < n.size; ++i) {
    const std::size_t length = path.size();
    if (object) {
      const std::string_view key = document.text_of(document.nodes[n.children.first + 2 * i]);
      path.append(path.empty() ? "" : ".").append(printable(key));
    } else {
      path.append(concat("[", i, "]"));
    }
    if (json_path(document, n.children.first + (object ? 2 * i + 1 : i), target, path)) return true;
    path.resize(length);
  }
  return false;
}

}  // namespace detail

KDLIB_FUNC Json Json::parse(std::string text, std::string name) {
  constexpr unsigned flags =
      rapidjson::kParseIterativeFlag | rapidjson::kParseInsituFlag | rapidjson::kParseNumbersAsStringsFlag;
  const std::size_t bytes = text.size();
  require<FormatError>(bytes < std::numeric_limits<std::uint32_t>::max(), "[json] ", name, ": ", bytes,
                       " bytes are above the limit of 4 GiB");
  const std::size_t invalid = find_invalid_utf8(text);
  require<FormatError>(invalid == std::string_view::npos, "[json] ", name, ": byte ", invalid, " is not valid UTF-8");

  auto document = std::make_shared<detail::JsonDocument>();
  document->name = std::move(name);
  document->text = std::move(text);
  detail::JsonBuilder builder(*document);
  rapidjson::Reader reader;
  rapidjson::InsituStringStream stream(document->text.data());
  const rapidjson::ParseResult result = reader.Parse<flags>(stream, builder);
  if (result.IsError()) {
    fail<FormatError>(
        "[json] ", document->name, ": byte ", result.Offset(), ": ",
        builder.problem().empty() ? rapidjson::GetParseError_En(result.Code()) : builder.problem().c_str());
  }
  // The reader takes a zero byte for the end of the text.
  require<FormatError>(stream.Tell() == bytes, "[json] ", document->name, ": byte ", stream.Tell(),
                       ": something follows the value");
  builder.finish();
  const auto root = static_cast<std::uint32_t>(document->nodes.size() - 1);
  return Json(std::move(document), root);
}

KDLIB_FUNC Json Json::parse_file(const std::string& path) { return parse(read_file(path), path); }

KDLIB_FUNC const detail::JsonNode& Json::node() const {
  static const detail::JsonNode null_node{};
  return document_ ? document_->nodes[node_] : null_node;
}

KDLIB_FUNC Json::Kind Json::kind() const { return node().kind; }

KDLIB_FUNC std::string Json::path() const {
  if (!document_) return "(no document): the value";
  std::string way;
  detail::json_path(*document_, static_cast<std::uint32_t>(document_->nodes.size() - 1), node_, way);
  return document_->name + ": " + (way.empty() ? "the document" : way);
}

KDLIB_FUNC void Json::refuse(std::string_view problem) const { fail<FormatError>("[json] ", path(), " ", problem); }

KDLIB_FUNC void Json::refuse_kind(const char* needed) const {
  refuse(concat("is ", detail::json_kind_names[static_cast<int>(kind())], ", ", needed, " is needed"));
}

KDLIB_FUNC bool Json::as_bool() const {
  if (!is_bool()) refuse_kind("a boolean");
  return node().u != 0;
}

KDLIB_FUNC std::int64_t Json::as_int() const {
  if (!is_integer()) refuse_kind("an integer");
  if (kind() == Kind::uint64) refuse(concat("is ", node().u, ", above the largest signed 64-bit integer"));
  return node().i;
}

KDLIB_FUNC std::uint64_t Json::as_uint() const {
  if (!is_integer()) refuse_kind("an integer from 0 to 2^64 - 1");
  if (kind() == Kind::int64 && node().i < 0) refuse(concat("is ", node().i, ", it must not be negative"));
  return node().u;
}

KDLIB_FUNC double Json::as_double() const {
  if (!is_number()) refuse_kind("a number");
  if (kind() == Kind::real) return node().d;
  return kind() == Kind::int64 ? static_cast<double>(node().i) : static_cast<double>(node().u);
}

KDLIB_FUNC std::string_view Json::as_string() const {
  if (!is_string()) refuse_kind("a string");
  return document_->text_of(node());
}

KDLIB_FUNC std::size_t Json::size() const { return is_array() || is_object() ? node().size : 0; }

KDLIB_FUNC Json Json::operator[](std::size_t i) const {
  if (!is_array() && !is_object()) refuse_kind("an array");
  if (i >= size()) refuse(concat("has ", size(), " elements, element ", i, " is needed"));
  const auto at = static_cast<std::uint32_t>(i);
  return Json(document_, node().children.first + (is_object() ? 2 * at + 1 : at));
}

KDLIB_FUNC std::string_view Json::key(std::size_t i) const {
  if (!is_object()) refuse_kind("an object");
  if (i >= size()) refuse(concat("has ", size(), " members, member ", i, " is needed"));
  return document_->text_of(document_->nodes[node().children.first + 2 * static_cast<std::uint32_t>(i)]);
}

KDLIB_FUNC std::optional<Json> Json::find(std::string_view wanted) const {
  if (!is_object()) return std::nullopt;
  const detail::JsonNode& object = node();
  const auto key_of = [&](std::uint32_t i) {
    return document_->text_of(document_->nodes[object.children.first + 2 * i]);
  };
  const auto value_of = [&](std::uint32_t i) { return Json(document_, object.children.first + 2 * i + 1); };
  if (object.size <= detail::json_linear_members) {
    for (std::uint32_t i = 0; i < object.size; ++i)
      if (key_of(i) == wanted) return value_of(i);
    return std::nullopt;
  }
  const auto begin = document_->order.begin() + object.children.order, end = begin + object.size;
  const auto at =
      std::lower_bound(begin, end, wanted, [&](std::uint32_t i, std::string_view key) { return key_of(i) < key; });
  if (at == end || key_of(*at) != wanted) return std::nullopt;
  return value_of(*at);
}

KDLIB_FUNC std::optional<Json> Json::find_set(std::string_view wanted) const {
  std::optional<Json> found = find(wanted);
  if (found && found->is_null()) found.reset();
  return found;
}

KDLIB_FUNC Json Json::at(std::string_view wanted) const {
  if (!is_object()) refuse_kind("an object");
  if (std::optional<Json> found = find(wanted)) return *std::move(found);
  const bool root = document_->nodes.size() == node_ + std::size_t{1};
  fail<FormatError>("[json] ", root ? document_->name + ": " : path() + ".", printable(wanted), " is missing");
}

KDLIB_FUNC bool Json::bool_or(std::string_view key, bool otherwise) const {
  const std::optional<Json> found = find_set(key);
  return found ? found->as_bool() : otherwise;
}

KDLIB_FUNC std::int64_t Json::int_or(std::string_view key, std::int64_t otherwise) const {
  const std::optional<Json> found = find_set(key);
  return found ? found->as_int() : otherwise;
}

KDLIB_FUNC double Json::double_or(std::string_view key, double otherwise) const {
  const std::optional<Json> found = find_set(key);
  return found ? found->as_double() : otherwise;
}

KDLIB_FUNC std::string Json::string_or(std::string_view key, std::string_view otherwise) const {
  const std::optional<Json> found = find_set(key);
  return std::string(found ? found->as_string() : otherwise);
}

KDLIB_FUNC Json::Iterator Json::begin() const {
  if (size() == 0) return {Json(), 1};
  return {Json(document_, node().children.first + (is_object() ? 1u : 0u)), is_object() ? 2u : 1u};
}

KDLIB_FUNC Json::Iterator Json::end() const {
  if (size() == 0) return {Json(), 1};
  const detail::JsonNode& n = node();
  return {Json(document_, n.children.first + (is_object() ? 2 * n.size + 1 : n.size)), 1};
}

KDLIB_FUNC JsonMembers Json::members() const { return JsonMembers(*this); }

KDLIB_FUNC JsonMember JsonMembers::Iterator::operator*() const { return {object_->key(at_), (*object_)[at_]}; }

KDLIB_NAMESPACE_END

#endif
