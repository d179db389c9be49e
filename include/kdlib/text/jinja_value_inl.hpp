// SPDX-License-Identifier: Apache-2.0
// Bodies of jinja_value.hpp: memory, truth, order.
#ifndef KDLIB_TEXT_JINJA_VALUE_INL_HPP
#define KDLIB_TEXT_JINJA_VALUE_INL_HPP

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "kdlib/text/jinja_value.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void JinjaHeap::charge(std::size_t bytes) {
  if (bytes > left_) jinja_fail(JinjaError::Kind::limit, "the rendering needs more than ", limits_.bytes, " bytes");
  left_ -= bytes;
}

KDLIB_FUNC void* JinjaHeap::allocate(std::size_t bytes) {
  charge(bytes);
  bytes = (bytes + 15) / 16 * 16;
  if (bytes > room_) {
    const std::size_t size = std::max(bytes, std::size_t{16384} << std::min<std::size_t>(blocks_.size(), 6));
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size));
    at_ = blocks_.back().get();
    room_ = size;
  }
  void* out = at_;
  at_ += bytes;
  room_ -= bytes;
  return out;
}

KDLIB_FUNC JinjaValue JinjaHeap::copy(std::string_view text) {
  if (text.empty()) return JinjaValue::of(std::string_view());
  char* to = static_cast<char*>(allocate(text.size()));
  std::memcpy(to, text.data(), text.size());
  return JinjaValue::of(std::string_view(to, text.size()));
}

/// Depth of what holds `v`.
KDLIB_FUNC unsigned depth_around(const JinjaValue& v, unsigned depth) {
  const unsigned inner = v.is_sequence() ? v.list->depth : v.is_dict() ? v.dict->depth : 0;
  if (inner >= jinja_max_depth)
    jinja_fail(JinjaError::Kind::limit, "lists and dicts lie more than ", jinja_max_depth, " deep in each other");
  return std::max(depth, inner + 1);
}

KDLIB_FUNC JinjaValue JinjaHeap::list(std::span<const JinjaValue> items, JinjaValue::Kind kind) {
  auto* list = make<JinjaList>();
  if (!items.empty()) {
    auto* to = static_cast<JinjaValue*>(allocate(items.size() * sizeof(JinjaValue)));
    std::uninitialized_copy(items.begin(), items.end(), to);
    list->items = to;
  }
  list->size = items.size();
  for (const JinjaValue& v : items) list->depth = depth_around(v, list->depth);
  JinjaValue out = JinjaValue::of_kind(kind);
  out.list = list;
  return out;
}

KDLIB_FUNC JinjaValue JinjaHeap::generator(std::span<const JinjaValue> items) {
  JinjaValue out = list(items);
  const_cast<JinjaList*>(out.list)->generator = true;  // made two lines above
  return out;
}

KDLIB_FUNC JinjaValue JinjaHeap::dict(std::span<const JinjaMember> members) {
  auto* dict = make<JinjaDict>();
  if (!members.empty()) {
    auto* to = static_cast<JinjaMember*>(allocate(members.size() * sizeof(JinjaMember)));
    for (const JinjaMember& m : members) {
      if (m.key.is_dict() || m.key.is(JinjaValue::Kind::list))
        jinja_fail(JinjaError::Kind::type, "a ", type_name(m.key), " cannot be the key of a dict");
      std::size_t at = 0;
      while (at < dict->size && !equal(*this, to[at].key, m.key)) ++at;
      if (at == dict->size) new (to + dict->size++) JinjaMember(m);
      else to[at].value = m.value;
      dict->depth = depth_around(m.value, dict->depth);
    }
    dict->items = to;
  }
  JinjaValue out = JinjaValue::of_kind(JinjaValue::Kind::dict);
  out.dict = dict;
  return out;
}

KDLIB_FUNC JinjaValue JinjaHeap::space() {
  charge(sizeof(JinjaSpace));
  spaces_.push_back(std::make_unique<JinjaSpace>());
  JinjaValue out = JinjaValue::of_kind(JinjaValue::Kind::space);
  out.space = spaces_.back().get();
  return out;
}

KDLIB_FUNC JinjaLoop* JinjaHeap::loop() { return make<JinjaLoop>(); }

KDLIB_FUNC JinjaValue JinjaHeap::method(JinjaValue self, std::string_view name) {
  auto* method = make<JinjaMethod>();
  *method = {self, name};
  JinjaValue out = JinjaValue::of_kind(JinjaValue::Kind::method);
  out.method = method;
  return out;
}

template <class String>
JinjaValue JinjaHeap::from_json(const Json& json, const String& string) {
  switch (json.kind()) {
    case Json::Kind::null:
      return JinjaValue::none();
    case Json::Kind::boolean:
      return JinjaValue::of(json.as_bool());
    case Json::Kind::int64:
      return JinjaValue::of(json.as_int());
    case Json::Kind::uint64: {
      if (json.as_uint() <= static_cast<std::uint64_t>(INT64_MAX))
        return JinjaValue::of(static_cast<std::int64_t>(json.as_uint()));
      JinjaValue v = JinjaValue::of_kind(JinjaValue::Kind::natural);
      v.natural = json.as_uint();
      return v;
    }
    case Json::Kind::real:
      return JinjaValue::of(json.as_double());
    case Json::Kind::string:
      return string(json.as_string());
    case Json::Kind::array: {
      std::vector<JinjaValue> items;
      items.reserve(json.size());
      for (const Json& element : json) items.push_back(from_json(element, string));  // at most Json::max_depth deep
      return list(items);
    }
    case Json::Kind::object: {  // Json refuses a key that occurs twice
      auto* dict = make<JinjaDict>();
      auto* to = static_cast<JinjaMember*>(allocate(json.size() * sizeof(JinjaMember)));
      for (const auto& [key, value] : json.members()) {
        new (to + dict->size++) JinjaMember{JinjaValue::of(key), from_json(value, string)};
        dict->depth = depth_around(to[dict->size - 1].value, dict->depth);
      }
      dict->items = to;
      JinjaValue out = JinjaValue::of_kind(JinjaValue::Kind::dict);
      out.dict = dict;
      return out;
    }
  }
  return {};
}

KDLIB_FUNC JinjaValue JinjaHeap::from_json(const Json& json) {
  return from_json(json, [](std::string_view text) { return JinjaValue::of(text); });
}

KDLIB_FUNC bool truth(const JinjaValue& v) {
  using Kind = JinjaValue::Kind;
  switch (v.kind) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
      return v.boolean;
    case Kind::integer:
      return v.integer != 0;
    case Kind::real:
      return v.real != 0;
    case Kind::string:
      return v.size > 0;
    case Kind::list:
    case Kind::tuple:
      return v.list->size > 0 || v.list->generator;
    case Kind::dict:
      return v.dict->size > 0;
    default:
      return true;
  }
}

KDLIB_FUNC bool equal_dicts(JinjaHeap& heap, const JinjaDict& a, const JinjaDict& b) {
  if (a.size != b.size) return false;
  for (const JinjaMember& m : a.members()) {
    bool found = false;
    for (const JinjaMember& other : b.members())
      if (equal(heap, m.key, other.key)) found = equal(heap, m.value, other.value);
    if (!found) return false;
  }
  return true;
}

/// As deep as jinja_max_depth.
KDLIB_FUNC bool equal(JinjaHeap& heap, const JinjaValue& a, const JinjaValue& b) {
  using Kind = JinjaValue::Kind;
  heap.step();
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) return a.as_integer() == b.as_integer();
    if (a.kind == b.kind && a.is(Kind::natural)) return a.natural == b.natural;
    return a.as_real() == b.as_real();
  }
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::string:
      heap.step(a.size / 16);
      return a.view() == b.view();
    case Kind::function:
      return a.view() == b.view();
    case Kind::list:
    case Kind::tuple:
      if (a.list == b.list) return true;
      if (a.list->generator || b.list->generator) return false;
      return std::equal(a.list->items, a.list->items + a.list->size, b.list->items, b.list->items + b.list->size,
                        [&](const JinjaValue& x, const JinjaValue& y) { return equal(heap, x, y); });
    case Kind::dict:
      return a.dict == b.dict || equal_dicts(heap, *a.dict, *b.dict);
    default:
      return a.text == b.text;  // the same object
  }
}

KDLIB_FUNC bool less(JinjaHeap& heap, const JinjaValue& a, const JinjaValue& b) {
  heap.step();
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) return a.as_integer() < b.as_integer();
    return a.as_real() < b.as_real();
  }
  if (a.is_string() && b.is_string()) return a.view() < b.view();  // UTF-8 keeps the order of code points
  if (a.kind == b.kind && a.is_sequence() && !a.list->generator && !b.list->generator) {
    const std::size_t n = std::min(a.list->size, b.list->size);
    for (std::size_t i = 0; i < n; ++i)
      if (!equal(heap, a.list->items[i], b.list->items[i])) return less(heap, a.list->items[i], b.list->items[i]);
    return a.list->size < b.list->size;
  }
  for (const JinjaValue* v : {&a, &b})
    if (v->is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v->view());
  jinja_fail(JinjaError::Kind::type, "a ", type_name(a), " and a ", type_name(b), " have no order");
}

KDLIB_FUNC std::string_view type_name(const JinjaValue& v) {
  constexpr std::string_view names[] = {"undefined value", "None", "bool",  "int",    "int",
                                        "float",           "str",  "list",  "tuple",  "dict",
                                        "namespace",       "loop", "macro", "method", "function"};
  if (v.is(JinjaValue::Kind::list) && v.list->generator) return "generator";
  return names[static_cast<std::size_t>(v.kind)];
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
