// SPDX-License-Identifier: Apache-2.0
// Calls of a template: macros, methods, and the functions that every template has.
#ifndef KDLIB_TEXT_JINJA_CALLS_INL_HPP
#define KDLIB_TEXT_JINJA_CALLS_INL_HPP

#include "kdlib/text/jinja_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC JinjaValue JinjaRun::call_node(const JinjaNode& node, const JinjaValue* caller) {
  const Depth depth(*this);
  const JinjaNode& callee = *node.kids[0];
  if (callee.kind == Kind::attribute) {  // object.name(...)
    const JinjaValue object = value(*callee.kids[0]);
    const std::string_view name = callee.value.view();
    if (has_method(object, name)) {
      JinjaArguments given = arguments(node, caller);
      given.what = name;
      place_ = node.place;
      return call_method(*this, object, name, given);
    }
    place_ = callee.place;
    const JinjaValue function = attribute(object, name);
    JinjaArguments given = arguments(node, caller);
    given.what = name;
    place_ = node.place;
    if (function.is(JinjaValue::Kind::undefined) && !is_changing_method(object, name))
      jinja_fail(JinjaError::Kind::unknown, "a ", type_name(object), " has no method ", name);
    return call(function, given);
  }
  const JinjaValue function = value(callee);
  JinjaArguments given = arguments(node, caller);
  if (callee.kind == Kind::name) given.what = program_.names[static_cast<std::size_t>(callee.name)];
  place_ = node.place;
  return call(function, given);
}

KDLIB_FUNC JinjaValue JinjaRun::call(const JinjaValue& callee, const JinjaArguments& arguments) {
  switch (callee.kind) {
    case JinjaValue::Kind::macro:
      return call_macro(*callee.macro, arguments);
    case JinjaValue::Kind::method:
      return call_method(*this, callee.method->self, callee.method->name, arguments);
    case JinjaValue::Kind::function:
      return call_function(*this, callee.view(), arguments);
    case JinjaValue::Kind::undefined:
      jinja_fail(JinjaError::Kind::undefined, callee.view(), " and cannot be called");
    default:
      jinja_fail(JinjaError::Kind::type, arguments.what, ": a ", type_name(callee), " cannot be called");
  }
}

KDLIB_FUNC JinjaValue JinjaRun::call_macro(const JinjaMacro& macro, const JinjaArguments& arguments) {
  const Depth depth(*this);
  const Scope scope(*this);
  const std::size_t base = std::exchange(base_, locals_.size());
  std::string words;
  std::string* around = std::exchange(out_, &words);
  const auto restore = [&] {
    base_ = base;
    out_ = around;
  };
  try {
    heap_.step(macro.captured.size());
    locals_.insert(locals_.end(), macro.captured.begin(), macro.captured.end());
    bind_parameters(*macro.node, arguments);
    run_body(*macro.node->kids[0]);
  } catch (...) {
    restore();
    throw;
  }
  restore();
  return text(words);
}

KDLIB_FUNC void JinjaRun::bind_parameters(const JinjaNode& node, const JinjaArguments& arguments) {
  const std::size_t count = node.parameters.size(), plain = count - (node.kids.size() - 1);
  const std::string_view name = program_.names[static_cast<std::size_t>(node.name)];
  std::vector<const JinjaValue*> given(count, nullptr);
  std::vector<JinjaMember> rest;
  std::size_t taken = std::min(count, arguments.positional.size());
  for (std::size_t i = 0; i < taken; ++i) given[i] = &arguments.positional[i];
  if (arguments.positional.size() > count && !node.varargs)
    jinja_fail(JinjaError::Kind::type, "the macro ", name, " takes at most ", count, " arguments, here are ",
               arguments.positional.size());
  for (const JinjaNamed& n : arguments.named) {
    std::size_t i = 0;
    while (i < count && program_.names[static_cast<std::size_t>(node.parameters[i])] != n.name) ++i;
    if (i < count && given[i] == nullptr) given[i] = &n.value;
    else if (i < count) jinja_fail(JinjaError::Kind::type, "the macro ", name, " gets the argument ", n.name, " twice");
    else if (n.name == "caller") bind(program_.find_name("caller"), n.value);
    else if (node.kwargs) rest.push_back({JinjaValue::of(n.name), n.value});
    else jinja_fail(JinjaError::Kind::type, "the macro ", name, " has no parameter ", n.name);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view parameter = program_.names[static_cast<std::size_t>(node.parameters[i])];
    if (given[i] != nullptr) bind(node.parameters[i], *given[i]);
    else if (i >= plain) bind(node.parameters[i], value(*node.kids[1 + i - plain]));
    else bind(node.parameters[i], heap_.undefined(concat("the parameter '", parameter, "' was not given")));
  }
  if (node.varargs)
    bind(program_.find_name("varargs"), heap_.list(arguments.positional.subspan(taken), JinjaValue::Kind::tuple));
  if (node.kwargs) bind(program_.find_name("kwargs"), heap_.dict(rest));
}

KDLIB_FUNC JinjaValue loop_attribute(JinjaRun& run, const JinjaLoop& loop, std::string_view name) {
  const auto number = [](std::size_t n) { return JinjaValue::of(static_cast<std::int64_t>(n)); };
  if (name == "index") return number(loop.index + 1);
  if (name == "index0") return number(loop.index);
  if (name == "first") return JinjaValue::of(loop.index == 0);
  if (name == "last") return JinjaValue::of(loop.index + 1 == loop.items.size());
  if (name == "length") return number(loop.items.size());
  if (name == "revindex") return number(loop.items.size() - loop.index);
  if (name == "revindex0") return number(loop.items.size() - loop.index - 1);
  if (name == "depth") return number(1);  // of recursive loops
  if (name == "depth0") return number(0);
  if (name == "previtem" && loop.index > 0) return loop.items[loop.index - 1];
  if (name == "nextitem" && loop.index + 1 < loop.items.size()) return loop.items[loop.index + 1];
  if (name == "previtem" || name == "nextitem")
    return run.heap().undefined(concat("loop.", name, ": there is no such element"));
  if (name == "cycle" || name == "changed") jinja_fail(JinjaError::Kind::unknown, "loop.", name, " is not known here");
  return run.heap().undefined(concat("'loop' has no attribute '", name, "'"));
}

KDLIB_FUNC void set_member(JinjaHeap& heap, JinjaSpace& space, const JinjaValue& name, const JinjaValue& value) {
  if (name.view().substr(0, 1) == "_")
    jinja_fail(JinjaError::Kind::type, "the namespace attribute ", name.view(), " begins with an underscore");
  for (JinjaMember& m : space.members)
    if (m.key.view() == name.view()) {
      m.value = value;
      return;
    }
  heap.charge(2 * sizeof(JinjaMember));
  space.members.push_back({name, value});
}

KDLIB_FUNC void append_two(int n, std::string& out, int width = 2, char fill = '0') {
  const std::string digits = std::to_string(n);
  for (int i = static_cast<int>(digits.size()); i < width; ++i) out += fill;
  out += digits;
}

/// The value of one field of strftime in the C locale: `rest` begins behind `%`, without the composed F and T.
KDLIB_FUNC void append_time_field(const JinjaClock& t, std::string_view rest, std::string& out) {
  const char field = rest.front();
  constexpr std::string_view months[] = {"January", "February", "March",     "April",   "May",      "June",
                                         "July",    "August",   "September", "October", "November", "December"};
  constexpr std::string_view days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  constexpr int shift[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4},
                before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  const auto month = static_cast<std::size_t>(t.month - 1);
  const int year = t.month < 3 ? t.year - 1 : t.year;  // the day of the week by Sakamoto's method
  const auto day = static_cast<std::size_t>((year + year / 4 - year / 100 + year / 400 + shift[month] + t.day) % 7);
  const bool leap = (t.year % 4 == 0 && t.year % 100 != 0) || t.year % 400 == 0;
  if (field == 'Y') append_two(t.year, out, 4);
  else if (field == 'y') append_two(t.year % 100, out);
  else if (field == 'm') append_two(t.month, out);
  else if (field == 'd') append_two(t.day, out);
  else if (field == 'e') append_two(t.day, out, 2, ' ');
  else if (field == 'j') append_two(before[month] + t.day + (leap && t.month > 2 ? 1 : 0), out, 3);
  else if (field == 'H') append_two(t.hour, out);
  else if (field == 'I') append_two((t.hour + 11) % 12 + 1, out);
  else if (field == 'M') append_two(t.minute, out);
  else if (field == 'S') append_two(t.second, out);
  else if (field == 'p') out += t.hour < 12 ? "AM" : "PM";
  else if (field == 'B') out += months[month];
  else if (field == 'b') out += months[month].substr(0, 3);
  else if (field == 'A') out += days[day];
  else if (field == 'a') out += days[day].substr(0, 3);
  else if (field == '%') out += '%';
  else jinja_fail(JinjaError::Kind::unknown, "strftime_now: %", first_character(rest), " is not known here");
}

/// strftime in the C locale.
KDLIB_FUNC std::string time_text(const JinjaClock& t, std::string_view form) {
  std::string out;
  for (std::size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '%' || i + 1 == form.size()) out += form[i];
    else if (form[++i] == 'F') out += time_text(t, "%Y-%m-%d");
    else if (form[i] == 'T') out += time_text(t, "%H:%M:%S");
    else append_time_field(t, form.substr(i), out);
  }
  return out;
}

KDLIB_FUNC JinjaValue range_function(JinjaRun& run, const JinjaArguments& arguments) {
  const auto given = arguments.bind<3>({"start", "stop", "step"}, 1);
  std::int64_t start = 0, stop = run.integer_of(*given[0], "range"), step = 1;
  if (given[1] != nullptr) start = std::exchange(stop, run.integer_of(*given[1], "range"));
  if (given[2] != nullptr) step = run.integer_of(*given[2], "range");
  if (step == 0) jinja_fail(JinjaError::Kind::type, "the step of a range is 0");
  std::vector<JinjaValue> items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == 100000) jinja_fail(JinjaError::Kind::limit, "a range has more than 100000 elements");
    items.push_back(JinjaValue::of(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return run.heap().list(items);
}

KDLIB_FUNC JinjaValue members_function(JinjaRun& run, bool space, const JinjaArguments& arguments) {
  if (arguments.positional.size() > 1)
    jinja_fail(JinjaError::Kind::type, arguments.what, " takes one argument without a name");
  std::vector<JinjaMember> members;
  for (const JinjaValue& first : arguments.positional) {
    if (first.is_dict()) {
      members.assign(first.dict->members().begin(), first.dict->members().end());
      continue;
    }
    for (const JinjaValue& pair : run.elements(first)) {
      const auto two = run.elements(pair);
      if (two.size() != 2) jinja_fail(JinjaError::Kind::type, arguments.what, " needs pairs of a key and a value");
      members.push_back({two[0], two[1]});
    }
  }
  for (const JinjaNamed& n : arguments.named) members.push_back({JinjaValue::of(n.name), n.value});
  if (!space) return run.heap().dict(members);
  const JinjaValue out = run.heap().space();
  for (const JinjaMember& m : members) set_member(run.heap(), *out.space, m.key, m.value);
  return out;
}

KDLIB_FUNC bool is_function(std::string_view name) {
  return name == "range" || name == "dict" || name == "namespace" || name == "raise_exception" ||
         name == "strftime_now";
}

KDLIB_FUNC JinjaValue call_function(JinjaRun& run, std::string_view name, const JinjaArguments& arguments) {
  if (name == "range") return range_function(run, arguments);
  if (name == "dict" || name == "namespace") return members_function(run, name == "namespace", arguments);
  const bool raises = name == "raise_exception";
  const JinjaValue& first = *arguments.bind<1>({raises ? "message" : "format"}, 1)[0];
  if (raises) jinja_fail(JinjaError::Kind::raised, run.string_of(first));
  if (!first.is_string()) jinja_fail(JinjaError::Kind::type, "strftime_now needs a string");
  return run.text(time_text(run.clock(), first.view()));
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
