// SPDX-License-Identifier: Apache-2.0
// Bodies of io/json_writer.hpp.
#ifndef KDLIB_IO_JSON_WRITER_INL_HPP
#define KDLIB_IO_JSON_WRITER_INL_HPP

#include <charconv>
#include <cmath>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void JsonWriter::new_line() {
  if (style_.indent == 0) return;
  out_ += '\n';
  out_.append(open_.size() * static_cast<std::size_t>(style_.indent), ' ');
}

KDLIB_FUNC void JsonWriter::before_value() {
  require<FormatError>(!done_ || !open_.empty(), "[json] a second value behind the finished text");
  if (open_.empty()) {
    done_ = true;
  } else if (open_.back() == '{') {
    require<FormatError>(has_key_, "[json] a value in an object needs its key first");
    has_key_ = false;
  } else {
    if (!first_) out_ += ',';
    new_line();
  }
  first_ = false;
}

KDLIB_FUNC JsonWriter& JsonWriter::key(std::string_view name) {
  require<FormatError>(!open_.empty() && open_.back() == '{' && !has_key_, "[json] key \"", printable(name),
                       "\" stands where a value or nothing may stand");
  if (!first_) out_ += ',';
  first_ = false;
  new_line();
  quote(name);
  out_ += style_.indent == 0 ? ":" : ": ";
  has_key_ = true;
  return *this;
}

KDLIB_FUNC JsonWriter& JsonWriter::begin(char bracket) {
  before_value();
  out_ += bracket;
  open_ += bracket;
  first_ = true;
  return *this;
}

KDLIB_FUNC JsonWriter& JsonWriter::end(char bracket) {
  const char opening = bracket == '}' ? '{' : '[';
  require<FormatError>(!open_.empty() && open_.back() == opening && !has_key_, "[json] '", bracket,
                       "' does not close what is open");
  open_.pop_back();
  if (!first_) new_line();
  out_ += bracket;
  first_ = false;
  return *this;
}

KDLIB_FUNC JsonWriter& JsonWriter::null() { return raw("null"); }
KDLIB_FUNC JsonWriter& JsonWriter::boolean(bool b) { return raw(b ? "true" : "false"); }
KDLIB_FUNC JsonWriter& JsonWriter::integer(std::int64_t i) { return raw(std::to_string(i)); }
KDLIB_FUNC JsonWriter& JsonWriter::natural(std::uint64_t u) { return raw(std::to_string(u)); }

KDLIB_FUNC JsonWriter& JsonWriter::raw(std::string_view json) {
  before_value();
  out_.append(json);
  return *this;
}

KDLIB_FUNC JsonWriter& JsonWriter::real(double d) {
  if (!std::isfinite(d)) {
    require<FormatError>(style_.non_finite == NonFinite::null, "[json] ", d,
                         " is not a finite number, JSON cannot hold it");
    return null();
  }
  char digits[32];
  const std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, d);
  std::string text(digits, end.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return raw(text);
}

KDLIB_FUNC JsonWriter& JsonWriter::value(std::string_view text) {
  before_value();
  quote(text);
  return *this;
}

KDLIB_FUNC void JsonWriter::quote(std::string_view text) {
  constexpr char digits[] = "0123456789abcdef";
  const std::size_t invalid = find_invalid_utf8(text);
  require<FormatError>(invalid == std::string_view::npos, "[json] the text \"", printable(text),
                       "\" is not valid UTF-8 at byte ", invalid);
  out_ += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out_ += {'\\', c};
    else if (c == '\n') out_ += "\\n";
    else if (c == '\r') out_ += "\\r";
    else if (c == '\t') out_ += "\\t";
    else if (byte < 0x20) out_ += {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
    else out_ += c;
  }
  out_ += '"';
}

KDLIB_FUNC const std::string& JsonWriter::text() {
  require<FormatError>(done_ && open_.empty(),
                       "[json] the text is not finished: ", open_.empty() ? "no value" : "brackets are open");
  if (style_.indent != 0 && out_.back() != '\n') out_ += '\n';
  return out_;
}

KDLIB_NAMESPACE_END

#endif
