// SPDX-License-Identifier: Apache-2.0
// Operators, indices and slices with Python's rules.
#ifndef KDLIB_TEXT_JINJA_OPERATORS_INL_HPP
#define KDLIB_TEXT_JINJA_OPERATORS_INL_HPP

#include <cmath>

#include "kdlib/text/jinja_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void refuse_undefined(const JinjaValue& a, const JinjaValue& b) {
  for (const JinjaValue* v : {&a, &b})
    if (v->is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v->view());
}

KDLIB_FUNC std::string_view JinjaRun::string_of(const JinjaValue& v) {
  if (v.is_string()) return v.view();
  std::string words;
  append_str(heap_, v, words);
  return heap_.copy(words).view();
}

KDLIB_FUNC std::int64_t JinjaRun::integer_of(const JinjaValue& v, std::string_view what) const {
  if (v.is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v.view());
  if (!v.is_integer()) jinja_fail(JinjaError::Kind::type, what, " needs an integer, this is a ", type_name(v));
  return v.as_integer();
}

KDLIB_FUNC std::span<const JinjaValue> JinjaRun::elements(const JinjaValue& v) {
  using K = JinjaValue::Kind;
  std::vector<JinjaValue> items;
  switch (v.kind) {
    case K::undefined:
      return {};
    case K::list:
    case K::tuple:
      if (v.list->generator && std::exchange(v.list->used, true)) return {};
      return v.list->elements();
    case K::dict:
      for (const JinjaMember& m : v.dict->members()) items.push_back(m.key);
      break;
    case K::string:
      heap_.step(v.size / 16);
      for (std::size_t at = 0; at < v.size;) {
        const std::size_t begin = at;
        next_code_point(v.text, at);
        items.push_back(JinjaValue::of(v.view().substr(begin, at - begin)));
      }
      break;
    default:
      jinja_fail(JinjaError::Kind::type, "a ", type_name(v), " has no elements to go through");
  }
  return heap_.list(items).list->elements();
}

KDLIB_FUNC std::size_t JinjaRun::length(const JinjaValue& v) {
  if (v.is(JinjaValue::Kind::undefined)) return 0;
  if (v.is_sequence() && !v.list->generator) return v.list->size;
  if (v.is_dict()) return v.dict->size;
  if (!v.is_string()) jinja_fail(JinjaError::Kind::type, "a ", type_name(v), " has no length");
  heap_.step(v.size / 16);
  return utf8_count(v.view());
}

KDLIB_FUNC bool JinjaRun::contains(const JinjaValue& container, const JinjaValue& element) {
  if (container.is_string()) {
    if (!element.is_string())
      jinja_fail(JinjaError::Kind::type, "only a string can be in a string, this is a ", type_name(element));
    heap_.step(container.size / 16);
    return container.view().find(element.view()) != std::string_view::npos;
  }
  if (container.is_dict()) {
    if (element.is_dict() || element.is(JinjaValue::Kind::list))
      jinja_fail(JinjaError::Kind::type, "a ", type_name(element), " cannot be the key of a dict");
    for (const JinjaMember& m : container.dict->members())
      if (equal(heap_, m.key, element)) return true;
    return false;
  }
  for (const JinjaValue& v : elements(container))
    if (equal(heap_, v, element)) return true;
  return false;
}

KDLIB_FUNC JinjaValue JinjaRun::add(const JinjaValue& a, const JinjaValue& b) {
  refuse_undefined(a, b);
  if (a.is_string() && b.is_string()) {
    std::string escaped;
    std::string_view left = a.view(), right = b.view();
    const bool markup = a.markup || b.markup;
    if (a.markup != b.markup) (a.markup ? right : left) = escaped = escape_markup(a.markup ? right : left);
    char* to = static_cast<char*>(heap_.allocate(left.size() + right.size() + 1));
    std::copy(left.begin(), left.end(), to);
    std::copy(right.begin(), right.end(), to + left.size());
    JinjaValue out = JinjaValue::of(std::string_view(to, left.size() + right.size()));
    out.markup = markup;
    return out;
  }
  if (a.is_sequence() && a.kind == b.kind && !a.list->generator && !b.list->generator) {
    std::vector<JinjaValue> items(a.list->elements().begin(), a.list->elements().end());
    items.insert(items.end(), b.list->elements().begin(), b.list->elements().end());
    return heap_.list(items, a.kind);
  }
  return arithmetic(JinjaOp::add, a, b);
}

KDLIB_FUNC JinjaValue repeated(JinjaRun& run, const JinjaValue& a, std::int64_t count) {
  const auto times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  const std::size_t size = a.is_string() ? a.size : a.list->size * sizeof(JinjaValue);
  if (size > 0 && times > (std::size_t{1} << 40) / size)
    jinja_fail(JinjaError::Kind::limit, "a repetition is too long");
  run.heap().charge(size * times);
  if (a.is_string()) {
    std::string words;
    for (std::size_t i = 0; i < times && size > 0; ++i) words += a.view();
    return run.text(words, a.markup);
  }
  std::vector<JinjaValue> items;
  for (std::size_t i = 0; i < times && size > 0; ++i)
    items.insert(items.end(), a.list->elements().begin(), a.list->elements().end());
  return run.heap().list(items, a.kind);
}

KDLIB_FUNC JinjaValue integers(JinjaOp op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  bool beyond = false;
  if ((op == JinjaOp::floor_divide || op == JinjaOp::modulo) && b == 0)
    jinja_fail(JinjaError::Kind::type, "division by zero");
  if (op == JinjaOp::add) beyond = __builtin_add_overflow(a, b, &out);
  if (op == JinjaOp::subtract) beyond = __builtin_sub_overflow(a, b, &out);
  if (op == JinjaOp::multiply) beyond = __builtin_mul_overflow(a, b, &out);
  if (op == JinjaOp::floor_divide || op == JinjaOp::modulo) {
    beyond = b == -1 && a == INT64_MIN;
    if (!beyond) {
      const std::int64_t rest = a % b, down = rest != 0 && (rest < 0) != (b < 0) ? 1 : 0;
      out = op == JinjaOp::modulo ? rest + down * b : a / b - down;
    }
  }
  if (op == JinjaOp::power) {
    out = 1;
    for (std::int64_t i = 0; i < b && !beyond && out != 0; ++i) {
      beyond = __builtin_mul_overflow(out, a, &out);
      if (a == 1 || (a == -1 && i > 1)) break;
    }
    if (a == -1) out = b % 2 == 0 ? 1 : -1;
  }
  if (beyond) jinja_fail(JinjaError::Kind::type, "an integer goes beyond 64 bits");
  return JinjaValue::of(out);
}

KDLIB_FUNC JinjaValue reals(JinjaOp op, double a, double b) {
  if ((op == JinjaOp::divide || op == JinjaOp::floor_divide || op == JinjaOp::modulo) && b == 0)
    jinja_fail(JinjaError::Kind::type, "division by zero");
  switch (op) {
    case JinjaOp::add:
      return JinjaValue::of(a + b);
    case JinjaOp::subtract:
      return JinjaValue::of(a - b);
    case JinjaOp::multiply:
      return JinjaValue::of(a * b);
    case JinjaOp::divide:
      return JinjaValue::of(a / b);
    case JinjaOp::floor_divide:
      return JinjaValue::of(std::floor(a / b));
    case JinjaOp::modulo: {
      const double rest = std::fmod(a, b);
      return JinjaValue::of(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
    }
    default:
      return JinjaValue::of(std::pow(a, b));
  }
}

KDLIB_FUNC JinjaValue JinjaRun::arithmetic(JinjaOp op, const JinjaValue& a, const JinjaValue& b) {
  constexpr std::string_view signs[] = {"", "+", "-", "*", "/", "//", "%", "**"};
  refuse_undefined(a, b);
  if (op == JinjaOp::modulo && a.is_string()) {
    const bool several = b.is(JinjaValue::Kind::tuple);
    std::vector<JinjaNamed> named;
    if (b.is_dict())
      for (const JinjaMember& m : b.dict->members()) named.push_back({string_of(m.key), m.value});
    return format(a, {"%", several ? b.list->elements() : std::span<const JinjaValue>(&b, b.is_dict() ? 0 : 1), named});
  }
  const auto repeats = [](const JinjaValue& v) { return v.is_string() || (v.is_sequence() && !v.list->generator); };
  if (op == JinjaOp::multiply && repeats(a) && b.is_integer()) return repeated(*this, a, b.as_integer());
  if (op == JinjaOp::multiply && repeats(b) && a.is_integer()) return repeated(*this, b, a.as_integer());
  if (!a.is_number() || !b.is_number())
    jinja_fail(JinjaError::Kind::type, "a ", type_name(a), " ", signs[static_cast<std::size_t>(op)], " a ",
               type_name(b), " is not possible");
  const bool whole =
      a.is_integer() && b.is_integer() && op != JinjaOp::divide && (op != JinjaOp::power || b.as_integer() >= 0);
  if (whole) return integers(op, a.as_integer(), b.as_integer());
  return reals(op, a.as_real(), b.as_real());
}

KDLIB_FUNC JinjaValue JinjaRun::attribute(const JinjaValue& object, std::string_view name) {
  using K = JinjaValue::Kind;
  if (object.is(K::undefined)) jinja_fail(JinjaError::Kind::undefined, object.view());
  if (object.is(K::loop)) return loop_attribute(*this, *object.loop, name);
  if (object.is(K::space))
    for (const JinjaMember& m : object.space->members)
      if (m.key.view() == name) return m.value;
  if (has_method(object, name)) return heap_.method(object, name);
  if (is_changing_method(object, name))
    return heap_.undefined(concat("the method ", name, " would change a ", type_name(object), "; templates may not"));
  if (object.is_dict())
    if (const JinjaValue* found = object.dict->find(name)) return *found;
  return heap_.undefined(concat("'", type_name(object), "' has no attribute '", name, "'"));
}

KDLIB_FUNC JinjaValue JinjaRun::item(const JinjaValue& object, const JinjaValue& key) {
  using K = JinjaValue::Kind;
  if (object.is(K::undefined)) jinja_fail(JinjaError::Kind::undefined, object.view());
  if (object.is_dict()) {
    for (const JinjaMember& m : object.dict->members())
      if (equal(heap_, m.key, key)) return m.value;
  } else if (key.is_integer() && ((object.is_sequence() && !object.list->generator) || object.is_string())) {
    const auto size = static_cast<std::int64_t>(length(object));
    const std::int64_t at = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
    if (at >= 0 && at < size) {
      if (!object.is_string()) return object.list->items[at];
      const std::string_view rest = object.view().substr(byte_of(object.view(), static_cast<std::size_t>(at)));
      JinjaValue out = JinjaValue::of(rest.substr(0, byte_of(rest, 1)));
      out.markup = object.markup;
      return out;
    }
  }
  if (key.is_string()) return attribute(object, key.view());
  std::string shown;
  append_repr(heap_, key, shown);
  return heap_.undefined(concat("'", type_name(object), "' has no element ", shown));
}

struct SliceRange {
  std::int64_t start, stop, step;
};

KDLIB_FUNC SliceRange slice_range(const JinjaRun& run, std::int64_t size, const JinjaValue& start,
                                  const JinjaValue& stop, std::int64_t step) {
  const auto bound = [&](const JinjaValue& v, std::int64_t otherwise) {
    if (v.is(JinjaValue::Kind::none)) return otherwise;
    std::int64_t at = run.integer_of(v, "a slice");
    if (at < 0) at = std::max<std::int64_t>(at + size, step < 0 ? -1 : 0);
    return std::min(at, step < 0 ? size - 1 : size);
  };
  return {bound(start, step < 0 ? size - 1 : 0), bound(stop, step < 0 ? -1 : size), step};
}

KDLIB_FUNC JinjaValue JinjaRun::slice(const JinjaValue& object, const JinjaValue& start, const JinjaValue& stop,
                                      const JinjaValue& step) {
  using K = JinjaValue::Kind;
  if (object.is(K::undefined)) jinja_fail(JinjaError::Kind::undefined, object.view());
  const std::int64_t by = step.is(K::none) ? 1 : integer_of(step, "a slice");
  if (!object.is_string() && (!object.is_sequence() || object.list->generator))
    jinja_fail(JinjaError::Kind::type, "a ", type_name(object), " has no slices");
  if (by == 0) jinja_fail(JinjaError::Kind::type, "the step of a slice is 0");
  const SliceRange r = slice_range(*this, static_cast<std::int64_t>(length(object)), start, stop, by);
  if (object.is_string() && by == 1) {
    const std::string_view words = object.view();
    const std::size_t begin = byte_of(words, static_cast<std::size_t>(r.start));
    const std::size_t end = r.stop <= r.start ? begin : byte_of(words, static_cast<std::size_t>(r.stop));
    JinjaValue out = JinjaValue::of(words.substr(begin, end - begin));
    out.markup = object.markup;
    return out;
  }
  const std::span<const JinjaValue> all = elements(object);
  std::vector<JinjaValue> items;
  for (std::int64_t i = r.start; by > 0 ? i < r.stop : i > r.stop; i += by) {
    items.push_back(all[static_cast<std::size_t>(i)]);
    if ((by > 0 && r.stop - i <= by) || (by < 0 && i - r.stop <= -by)) break;  // i + by could overflow
  }
  if (!object.is_string()) return heap_.list(items, object.kind);
  std::string words;
  for (const JinjaValue& v : items) words += v.view();
  return text(words, object.markup);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
