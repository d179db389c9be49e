// SPDX-License-Identifier: Apache-2.0
// Methods of strings, dicts and lists, with Python's names.
#ifndef KDLIB_TEXT_JINJA_METHODS_INL_HPP
#define KDLIB_TEXT_JINJA_METHODS_INL_HPP

#include <algorithm>
#include <iterator>

#include "kdlib/text/jinja_run.hpp"
#include "kdlib/text/jinja_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

using JinjaMethodBody = JinjaValue (*)(JinjaRun&, const JinjaValue& self, const JinjaArguments&);
struct JinjaMethodEntry {
  std::string_view name;
  JinjaMethodBody body;
};

KDLIB_FUNC std::string_view string_argument(const JinjaValue& v, std::string_view what) {
  if (v.is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v.view());
  if (!v.is_string()) jinja_fail(JinjaError::Kind::type, what, " needs a string, this is a ", type_name(v));
  return v.view();
}

KDLIB_FUNC std::optional<std::string_view> optional_string(const JinjaValue* v, std::string_view what) {
  if (v == nullptr || v->is(JinjaValue::Kind::none)) return std::nullopt;
  return string_argument(*v, what);
}

/// Parts of a text as a list, without copies.
KDLIB_FUNC JinjaValue parts_list(JinjaRun& run, const JinjaValue& self, const std::vector<std::string_view>& parts) {
  std::vector<JinjaValue> items;
  for (const std::string_view part : parts) {
    items.push_back(JinjaValue::of(part));
    items.back().markup = self.markup;
  }
  return run.heap().list(items);
}

KDLIB_FUNC JinjaValue split_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments, bool right) {
  const auto given = arguments.bind<2>({"sep", "maxsplit"});
  const auto separator = optional_string(given[0], arguments.what);
  if (separator && separator->empty()) jinja_fail(JinjaError::Kind::type, "split: the separator is empty");
  const std::int64_t limit = given[1] == nullptr ? -1 : run.integer_of(*given[1], arguments.what);
  const std::size_t cuts = limit < 0 ? self.size + std::size_t{1} : static_cast<std::size_t>(limit);
  return parts_list(run, self, right ? rsplit(self.view(), separator, cuts) : split(self.view(), separator, cuts));
}

template <Sides sides>
JinjaValue strip_method(JinjaRun&, const JinjaValue& self, const JinjaArguments& arguments) {
  JinjaValue out =
      JinjaValue::of(strip(self.view(), sides, optional_string(arguments.bind<1>({"chars"})[0], arguments.what)));
  out.markup = self.markup;
  return out;
}

template <bool end>
JinjaValue affix_method(JinjaRun&, const JinjaValue& self, const JinjaArguments& arguments) {
  const JinjaValue& wanted = *arguments.bind<1>({"affix"}, 1)[0];
  const auto fits = [&](const JinjaValue& v) {
    const std::string_view affix = string_argument(v, arguments.what);
    if (affix.size() > self.size) return false;
    return self.view().substr(end ? self.size - affix.size() : 0, affix.size()) == affix;
  };
  if (!wanted.is(JinjaValue::Kind::tuple)) return JinjaValue::of(fits(wanted));
  const auto all = wanted.list->elements();
  return JinjaValue::of(std::any_of(all.begin(), all.end(), fits));
}

template <bool end>
JinjaValue remove_method(JinjaRun&, const JinjaValue& self, const JinjaArguments& arguments) {
  const std::string_view affix = string_argument(*arguments.bind<1>({"affix"}, 1)[0], arguments.what);
  std::string_view words = self.view();
  if (affix.size() <= words.size() && words.substr(end ? words.size() - affix.size() : 0, affix.size()) == affix)
    words = end ? words.substr(0, words.size() - affix.size()) : words.substr(affix.size());
  return JinjaValue::of(words);
}

KDLIB_FUNC JinjaValue replace_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  const auto given = arguments.bind<3>({"old", "new", "count"}, 2);
  const std::int64_t count =
      given[2] == nullptr || given[2]->is(JinjaValue::Kind::none) ? -1 : run.integer_of(*given[2], arguments.what);
  const std::string_view from = string_argument(*given[0], arguments.what),
                         to = string_argument(*given[1], arguments.what);
  run.heap().step(self.size / 16);
  // The longest result, before it is made.
  run.heap().charge(self.size + (self.size + std::size_t{1}) / std::max<std::size_t>(from.size(), 1) * to.size());
  const std::size_t limit = count < 0 ? SIZE_MAX : static_cast<std::size_t>(count);
  return run.text(replace_text(self.view(), from, to, limit), self.markup);
}

template <std::string (*change)(std::string_view)>
JinjaValue change_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  arguments.none();
  run.heap().step(self.size);
  return run.text(change(self.view()), self.markup);
}

template <bool last>
JinjaValue find_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  const std::string_view wanted = string_argument(*arguments.bind<1>({"sub"}, 1)[0], arguments.what);
  run.heap().step(self.size / 16);
  const std::size_t at = last ? self.view().rfind(wanted) : self.view().find(wanted);
  if (at != std::string_view::npos)
    return JinjaValue::of(static_cast<std::int64_t>(utf8_count(self.view().substr(0, at))));
  if (arguments.what == "index" || arguments.what == "rindex")
    jinja_fail(JinjaError::Kind::type, arguments.what, ": the text is not found");
  return JinjaValue::of(std::int64_t{-1});
}

KDLIB_FUNC JinjaValue count_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  const JinjaValue& wanted = *arguments.bind<1>({"sub"}, 1)[0];
  std::int64_t count = 0;
  if (!self.is_string()) {
    for (const JinjaValue& v : run.elements(self)) count += equal(run.heap(), v, wanted) ? 1 : 0;
    return JinjaValue::of(count);
  }
  const std::string_view part = string_argument(wanted, arguments.what);
  run.heap().step(self.size / 16);
  if (part.empty()) return JinjaValue::of(static_cast<std::int64_t>(utf8_count(self.view()) + 1));
  for (std::size_t at = 0; (at = self.view().find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return JinjaValue::of(count);
}

KDLIB_FUNC JinjaValue join_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  std::string words;
  bool first = true;
  for (const JinjaValue& v : run.elements(*arguments.bind<1>({"iterable"}, 1)[0])) {
    run.heap().charge(first ? 0 : self.size);
    if (!std::exchange(first, false)) words += self.view();
    run.heap().charge(string_argument(v, arguments.what).size());
    words += v.view();
  }
  return run.text(words, self.markup);
}

/// isdigit, isalpha, isalnum, isspace, isupper, islower by the class of every character.
KDLIB_FUNC JinjaValue class_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  arguments.none();
  run.heap().step(self.size);
  const std::string_view words = self.view(), what = arguments.what;
  bool all = !words.empty(), cased = false;
  for (std::size_t at = 0; at < words.size();) {
    const char32_t c = next_code_point(words.data(), at);
    const UnicodeClass kind = unicode_class(c);
    const bool letter = kind == UnicodeClass::upper || kind == UnicodeClass::lower || kind == UnicodeClass::letter;
    const bool digit = kind == UnicodeClass::number;
    cased = cased || is_cased(c);
    if (what == "isspace") all = all && is_python_space(c);
    else if (what == "isupper") all = all && kind != UnicodeClass::lower;
    else if (what == "islower") all = all && kind != UnicodeClass::upper;
    else all = all && ((what != "isdigit" && letter) || (what != "isalpha" && digit));
  }
  return JinjaValue::of(all && (cased || (what != "isupper" && what != "islower")));
}

KDLIB_FUNC JinjaValue lines_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  arguments.none();
  return parts_list(run, self, split_lines(self.view()));
}

KDLIB_FUNC JinjaValue format_method(JinjaRun&, const JinjaValue&, const JinjaArguments&) {
  jinja_fail(JinjaError::Kind::unknown, "str.format is not known here; % and the filter format are");
}

inline constexpr JinjaMethodEntry string_methods[] = {
    {"capitalize", change_method<capitalize>},
    {"count", count_method},
    {"endswith", affix_method<true>},
    {"find", find_method<false>},
    {"format", format_method},
    {"index", find_method<false>},
    {"isalnum", class_method},
    {"isalpha", class_method},
    {"isdigit", class_method},
    {"islower", class_method},
    {"isspace", class_method},
    {"isupper", class_method},
    {"join", join_method},
    {"lower", change_method<to_lower>},
    {"lstrip", strip_method<Sides::left>},
    {"removeprefix", remove_method<false>},
    {"removesuffix", remove_method<true>},
    {"replace", replace_method},
    {"rfind", find_method<true>},
    {"rindex", find_method<true>},
    {"rsplit", [](JinjaRun& r, const JinjaValue& s, const JinjaArguments& a) { return split_method(r, s, a, true); }},
    {"rstrip", strip_method<Sides::right>},
    {"split", [](JinjaRun& r, const JinjaValue& s, const JinjaArguments& a) { return split_method(r, s, a, false); }},
    {"splitlines", lines_method},
    {"startswith", affix_method<false>},
    {"strip", strip_method<Sides::both>},
    {"title", change_method<to_title>},
    {"upper", change_method<to_upper>}};

KDLIB_FUNC JinjaValue get_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  const auto given = arguments.bind<2>({"key", "default"}, 1);
  for (const JinjaMember& m : self.dict->members())
    if (equal(run.heap(), m.key, *given[0])) return m.value;
  return given[1] != nullptr ? *given[1] : JinjaValue::none();
}

template <int part>  // 0: pairs, 1: keys, 2: values
JinjaValue members_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  arguments.none();
  std::vector<JinjaValue> items;
  for (const JinjaMember& m : self.dict->members()) {
    const JinjaValue pair[] = {m.key, m.value};
    items.push_back(part == 0 ? run.heap().list(pair, JinjaValue::Kind::tuple) : part == 1 ? m.key : m.value);
  }
  return run.heap().list(items);
}

KDLIB_FUNC JinjaValue copy_method(JinjaRun&, const JinjaValue& self, const JinjaArguments& arguments) {
  arguments.none();
  return self;
}

inline constexpr JinjaMethodEntry dict_methods[] = {{"copy", copy_method},
                                                    {"get", get_method},
                                                    {"items", members_method<0>},
                                                    {"keys", members_method<1>},
                                                    {"values", members_method<2>}};

KDLIB_FUNC JinjaValue index_method(JinjaRun& run, const JinjaValue& self, const JinjaArguments& arguments) {
  const JinjaValue& wanted = *arguments.bind<1>({"value"}, 1)[0];
  for (std::size_t i = 0; i < self.list->size; ++i)
    if (equal(run.heap(), self.list->items[i], wanted)) return JinjaValue::of(static_cast<std::int64_t>(i));
  jinja_fail(JinjaError::Kind::type, "index: the value is not in the list");
}

inline constexpr JinjaMethodEntry list_methods[] = {
    {"copy", copy_method}, {"count", count_method}, {"index", index_method}};

KDLIB_FUNC std::span<const JinjaMethodEntry> methods_of(const JinjaValue& v) {
  if (v.is_string()) return string_methods;
  if (v.is_dict()) return dict_methods;
  if (v.is(JinjaValue::Kind::list) && !v.list->generator) return list_methods;
  if (v.is(JinjaValue::Kind::tuple)) return std::span(list_methods).subspan(1);
  return {};
}

KDLIB_FUNC const JinjaMethodEntry* find_method_entry(const JinjaValue& v, std::string_view name) {
  for (const JinjaMethodEntry& entry : methods_of(v))
    if (entry.name == name) return &entry;
  return nullptr;
}

KDLIB_FUNC bool has_method(const JinjaValue& v, std::string_view name) { return find_method_entry(v, name) != nullptr; }

KDLIB_FUNC bool is_changing_method(const JinjaValue& v, std::string_view name) {
  constexpr std::string_view of_dicts[] = {"clear", "fromkeys", "pop", "popitem", "setdefault", "update"};
  constexpr std::string_view of_lists[] = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};
  const auto holds = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  return (v.is_dict() && holds(of_dicts)) || (v.is(JinjaValue::Kind::list) && holds(of_lists));
}

KDLIB_FUNC JinjaValue call_method(JinjaRun& run, const JinjaValue& self, std::string_view name,
                                  const JinjaArguments& arguments) {
  JinjaArguments named = arguments;
  named.what = name;
  return find_method_entry(self, name)->body(run, self, named);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
