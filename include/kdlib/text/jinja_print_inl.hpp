// SPDX-License-Identifier: Apache-2.0
// Values as Python's str(), repr() and json.dumps() write them.
#ifndef KDLIB_TEXT_JINJA_PRINT_INL_HPP
#define KDLIB_TEXT_JINJA_PRINT_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kdlib/text/chat_message.hpp"
#include "kdlib/text/jinja_text.hpp"
#include "kdlib/text/jinja_value.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void append_float(double value, std::string& out) {
  if (std::isnan(value)) out += "nan";
  else if (std::isinf(value)) out += value < 0 ? "-inf" : "inf";
  else append_python_float(value, out);
}

KDLIB_FUNC void append_hex(const char* form, char32_t c, std::string& out) {
  char text[16];
  std::snprintf(text, sizeof text, form, static_cast<unsigned>(c));
  out += text;
}

KDLIB_FUNC void append_repr_text(std::string_view text, std::string& out) {
  const bool doubled = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = doubled ? '"' : '\'';
  out += quote;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text.data(), at);
    if (c == static_cast<unsigned char>(quote) || c == '\\') out.append(1, '\\').append(1, static_cast<char>(c));
    else if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (is_printable(c)) out += text.substr(begin, at - begin);
    else append_hex(c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c, out);
  }
  out += quote;
}

KDLIB_FUNC void append_members(JinjaHeap& heap, std::span<const JinjaMember> members, std::string& out) {
  out += '{';
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(heap, members[i].key, out);
    out += ": ";
    append_repr(heap, members[i].value, out);
  }
  out += '}';
}

KDLIB_FUNC void append_elements(JinjaHeap& heap, const JinjaValue& v, std::string& out) {
  const bool tuple = v.is(JinjaValue::Kind::tuple);
  if (v.list->generator) {
    out += "<generator object>";
    return;
  }
  out += tuple ? '(' : '[';
  for (std::size_t i = 0; i < v.list->size; ++i) {
    if (i > 0) out += ", ";
    append_repr(heap, v.list->items[i], out);
  }
  if (tuple && v.list->size == 1) out += ',';
  out += tuple ? ')' : ']';
}

KDLIB_FUNC void append_repr(JinjaHeap& heap, const JinjaValue& v, std::string& out) {
  using Kind = JinjaValue::Kind;
  heap.step(1 + (v.is_string() ? v.size / 16 : 0));
  heap.charge(v.is_string() ? v.size : 8);
  switch (v.kind) {
    case Kind::undefined:
      out += "Undefined";
      break;
    case Kind::none:
      out += "None";
      break;
    case Kind::boolean:
      out += v.boolean ? "True" : "False";
      break;
    case Kind::integer:
      out += std::to_string(v.integer);
      break;
    case Kind::natural:
      out += std::to_string(v.natural);
      break;
    case Kind::real:
      append_float(v.real, out);
      break;
    case Kind::string:
      if (v.markup) out += "Markup(";
      append_repr_text(v.view(), out);
      if (v.markup) out += ')';
      break;
    case Kind::list:
    case Kind::tuple:
      append_elements(heap, v, out);
      break;
    case Kind::dict:
      append_members(heap, v.dict->members(), out);
      break;
    case Kind::space:  // the members are not shown: a namespace may hold itself
      out += "<Namespace>";
      break;
    default:
      out += concat("<", type_name(v), ">");
  }
}

KDLIB_FUNC void append_str(JinjaHeap& heap, const JinjaValue& v, std::string& out) {
  if (v.is(JinjaValue::Kind::undefined)) return;
  if (!v.is_string()) return append_repr(heap, v, out);
  heap.charge(v.size);
  out += v.view();
}

KDLIB_FUNC void append_json_text(std::string_view text, bool ascii, std::string& out) {
  const std::size_t begin = out.size();
  append_python_string(text, out);
  if (!ascii) return;
  const std::string plain = out.substr(begin);
  out.resize(begin);
  for (std::size_t at = 0; at < plain.size();) {
    const char32_t c = next_code_point(plain.data(), at);
    if (c < 0x7F) {
      out += static_cast<char>(c);
    } else if (c < 0x10000) {
      append_hex("\\u%04x", c, out);
    } else {
      append_hex("\\u%04x", 0xD800 + ((c - 0x10000) >> 10), out);
      append_hex("\\u%04x", 0xDC00 + ((c - 0x10000) & 0x3FF), out);
    }
  }
}

KDLIB_FUNC void append_json_scalar(JinjaHeap& heap, const JinjaValue& v, const JsonForm& form, std::string& out) {
  using Kind = JinjaValue::Kind;
  switch (v.kind) {
    case Kind::none:
      out += "null";
      break;
    case Kind::boolean:
      out += v.boolean ? "true" : "false";
      break;
    case Kind::real:
      if (std::isnan(v.real)) out += "NaN";
      else if (std::isinf(v.real)) out += v.real < 0 ? "-Infinity" : "Infinity";
      else append_float(v.real, out);
      break;
    case Kind::integer:
    case Kind::natural:
      append_str(heap, v, out);
      break;
    case Kind::string:
      append_json_text(v.view(), form.ascii, out);
      break;
    case Kind::undefined:
      jinja_fail(JinjaError::Kind::undefined, "tojson: ", v.view());
    default:
      jinja_fail(JinjaError::Kind::type, "tojson cannot write a ", type_name(v));
  }
}

KDLIB_FUNC void append_json_key(JinjaHeap& heap, const JinjaValue& key, const JsonForm& form, std::string& out) {
  if (key.is_string()) return append_json_text(key.view(), form.ascii, out);
  if (key.is_sequence() || key.is_dict())
    jinja_fail(JinjaError::Kind::type, "tojson: a ", type_name(key), " cannot be the key of an object");
  out += '"';
  append_json_scalar(heap, key, form, out);
  out += '"';
}

KDLIB_FUNC void append_json_break(const JsonForm& form, unsigned level, JinjaHeap& heap, std::string& out) {
  if (!form.indent) return;
  heap.charge(level * form.indent->size());
  out += '\n';
  for (unsigned i = 0; i < level; ++i) out += *form.indent;
}

KDLIB_FUNC void append_json_dict(JinjaHeap& heap, const JinjaDict& dict, const JsonForm& form, std::string& out,
                                 unsigned level) {
  std::vector<JinjaMember> members(dict.members().begin(), dict.members().end());
  if (form.sorted)
    std::stable_sort(members.begin(), members.end(),
                     [&](const JinjaMember& a, const JinjaMember& b) { return less(heap, a.key, b.key); });
  out += '{';
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i > 0) out += form.item;
    append_json_break(form, level + 1, heap, out);
    append_json_key(heap, members[i].key, form, out);
    out += form.key;
    append_json(heap, members[i].value, form, out, level + 1);
  }
  if (!members.empty()) append_json_break(form, level, heap, out);
  out += '}';
}

KDLIB_FUNC void append_json(JinjaHeap& heap, const JinjaValue& v, const JsonForm& form, std::string& out,
                            unsigned level) {
  heap.step(1 + (v.is_string() ? v.size / 16 : 0));
  heap.charge(v.is_string() ? v.size : 8);
  if (v.is_dict()) return append_json_dict(heap, *v.dict, form, out, level);
  if (!v.is_sequence() || v.list->generator) return append_json_scalar(heap, v, form, out);
  out += '[';
  for (std::size_t i = 0; i < v.list->size; ++i) {
    if (i > 0) out += form.item;
    append_json_break(form, level + 1, heap, out);
    append_json(heap, v.list->items[i], form, out, level + 1);
  }
  if (v.list->size > 0) append_json_break(form, level, heap, out);
  out += ']';
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
