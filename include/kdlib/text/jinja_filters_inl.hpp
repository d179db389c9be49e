// SPDX-License-Identifier: Apache-2.0
// Filters of Jinja that work on lists and dicts, and the table of all. Those of texts are in
// jinja_text_filters_inl.hpp.
#ifndef KDLIB_TEXT_JINJA_FILTERS_INL_HPP
#define KDLIB_TEXT_JINJA_FILTERS_INL_HPP

#include <algorithm>

#include "kdlib/text/jinja_text_filters_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC JinjaValue JinjaRun::filter(std::string_view name, const JinjaValue& subject,
                                       std::span<const JinjaValue> arguments, std::span<const JinjaNamed> named) {
  const JinjaFilter body = find_filter(name);
  if (body == nullptr) jinja_fail(JinjaError::Kind::unknown, "there is no filter named ", name);
  return body(*this, subject, {name, arguments, named});
}

/// The value at a path such as "function.name" or 0 inside an element; `otherwise` for a part that is not there.
KDLIB_FUNC JinjaValue at_path(JinjaRun& run, const JinjaValue& element, const JinjaValue& path,
                              const JinjaValue* otherwise = nullptr) {
  const auto found = [&](const JinjaValue& v) {
    return otherwise != nullptr && v.is(JinjaValue::Kind::undefined) ? *otherwise : v;
  };
  if (!path.is_string()) return found(run.item(element, path));
  JinjaValue out = element;
  for (const std::string_view part : split(path.view(), ".", path.size + std::size_t{1})) {
    std::int64_t index = 0;
    const auto [end, ec] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool number = ec == std::errc() && end == part.data() + part.size() && part[0] != '-';
    out = found(run.item(out, number ? JinjaValue::of(index) : JinjaValue::of(part)));
  }
  return out;
}

/// Strings in lower case: how sort, unique, min and max compare unless told otherwise.
KDLIB_FUNC JinjaValue without_case(JinjaRun& run, const JinjaValue& v, bool exact) {
  if (exact || !v.is_string()) return v;
  run.heap().step(v.size);
  return run.text(to_lower(v.view()));
}

/// Elements with what they are compared by.
KDLIB_FUNC std::vector<JinjaMember> keyed(JinjaRun& run, const JinjaValue& v, const JinjaValue* path, bool exact) {
  std::vector<JinjaMember> out;
  const bool whole = path == nullptr || path->is(JinjaValue::Kind::none);
  for (const JinjaValue& element : run.elements(v))
    out.push_back({without_case(run, whole ? element : at_path(run, element, *path), exact), element});
  return out;
}

KDLIB_FUNC bool flag(const JinjaValue* v) { return v != nullptr && truth(*v); }

KDLIB_FUNC void sort_keyed(JinjaRun& run, std::vector<JinjaMember>& members, bool reverse) {
  const auto order = [&](const JinjaMember& a, const JinjaMember& b) { return less(run.heap(), a.key, b.key); };
  if (reverse) std::reverse(members.begin(), members.end());  // equal elements keep their order
  std::stable_sort(members.begin(), members.end(), order);
  if (reverse) std::reverse(members.begin(), members.end());
}

KDLIB_FUNC JinjaValue values_of(JinjaRun& run, const std::vector<JinjaMember>& members) {
  std::vector<JinjaValue> items;
  for (const JinjaMember& m : members) items.push_back(m.value);
  return run.heap().list(items);
}

KDLIB_FUNC JinjaValue sort_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<3>({"reverse", "case_sensitive", "attribute"});
  if (given[2] != nullptr && given[2]->is_string() && given[2]->view().find(',') != std::string_view::npos)
    jinja_fail(JinjaError::Kind::unknown, "sort by several attributes is not known here");
  std::vector<JinjaMember> members = keyed(run, v, given[2], flag(given[1]));
  sort_keyed(run, members, flag(given[0]));
  return values_of(run, members);
}

KDLIB_FUNC JinjaValue unique_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<2>({"case_sensitive", "attribute"});
  std::vector<JinjaMember> kept;
  for (const JinjaMember& m : keyed(run, v, given[1], flag(given[0])))
    if (std::none_of(kept.begin(), kept.end(), [&](const JinjaMember& k) { return equal(run.heap(), k.key, m.key); }))
      kept.push_back(m);
  return run.heap().generator(values_of(run, kept).list->elements());
}

template <bool largest>
JinjaValue extreme_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<2>({"case_sensitive", "attribute"});
  const std::vector<JinjaMember> members = keyed(run, v, given[1], flag(given[0]));
  if (members.empty()) return run.heap().undefined("there is no element to choose from");
  std::size_t best = 0;
  for (std::size_t i = 1; i < members.size(); ++i)
    if (largest ? less(run.heap(), members[best].key, members[i].key)
                : less(run.heap(), members[i].key, members[best].key))
      best = i;
  return members[best].value;
}

KDLIB_FUNC JinjaValue sum_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<2>({"attribute", "start"});
  JinjaValue out = given[1] != nullptr ? *given[1] : JinjaValue::of(std::int64_t{0});
  for (const JinjaMember& m : keyed(run, v, given[0], true)) out = run.add(out, m.key);
  return out;
}

KDLIB_FUNC JinjaValue dictsort_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<3>({"case_sensitive", "by", "reverse"});
  if (v.is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v.view());
  if (!v.is_dict()) jinja_fail(JinjaError::Kind::type, "dictsort needs a dict, this is a ", type_name(v));
  const std::string_view by = given[1] == nullptr ? "key" : string_argument(*given[1], "dictsort");
  if (by != "key" && by != "value")
    jinja_fail(JinjaError::Kind::type, "dictsort sorts by key or by value, not by ", by);
  std::vector<JinjaMember> members;
  for (const JinjaMember& m : v.dict->members()) {
    const JinjaValue pair[] = {m.key, m.value};
    members.push_back({without_case(run, by == "key" ? m.key : m.value, flag(given[0])),
                       run.heap().list(pair, JinjaValue::Kind::tuple)});
  }
  sort_keyed(run, members, flag(given[2]));
  return values_of(run, members);
}

/// select, reject, selectattr, rejectattr.
template <bool keeps, bool by_attribute>
JinjaValue select_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  std::span<const JinjaValue> given = arguments.positional;
  if (!truth(v)) return run.heap().generator({});
  if (by_attribute && given.empty())
    jinja_fail(JinjaError::Kind::type, arguments.what, " needs the name of an attribute");
  const JinjaValue path = by_attribute ? given[0] : JinjaValue();
  if (by_attribute) given = given.subspan(1);
  std::vector<JinjaValue> kept;
  for (const JinjaValue& element : run.elements(v)) {
    run.heap().step();
    const JinjaValue subject = by_attribute ? at_path(run, element, path) : element;
    const bool holds =
        given.empty() ? truth(subject) : run.test(string_argument(given[0], arguments.what), subject, given.subspan(1));
    if (holds == keeps) kept.push_back(element);
  }
  return run.heap().generator(kept);
}

KDLIB_FUNC JinjaValue map_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  std::vector<JinjaValue> made;
  if (!truth(v)) return run.heap().generator({});
  const bool by_attribute = arguments.positional.empty() && !arguments.named.empty();
  if (arguments.positional.empty() && !by_attribute)
    jinja_fail(JinjaError::Kind::type, "map needs the name of a filter");
  for (const JinjaValue& element : run.elements(v)) {
    run.heap().step();
    if (by_attribute) {
      const auto given = arguments.bind<2>({"attribute", "default"}, 1);
      made.push_back(at_path(run, element, *given[0], given[1]));
    } else {
      const std::string_view name = string_argument(arguments.positional[0], "map");
      if (name == "map") jinja_fail(JinjaError::Kind::limit, "map of map is not known here");  // no recursion
      made.push_back(run.filter(name, element, arguments.positional.subspan(1), arguments.named));
    }
  }
  return run.heap().generator(made);
}

KDLIB_FUNC JinjaValue list_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return run.heap().list(run.elements(v));
}

KDLIB_FUNC JinjaValue items_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  if (v.is(JinjaValue::Kind::undefined)) return run.heap().generator({});
  if (!v.is_dict()) jinja_fail(JinjaError::Kind::type, "items needs a dict, this is a ", type_name(v));
  return run.heap().generator(members_method<0>(run, v, arguments).list->elements());
}

template <bool last>
JinjaValue end_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  if (last && v.is_sequence() && v.list->generator)
    jinja_fail(JinjaError::Kind::type, "a generator has no last element; make a list of it first");
  const auto all = run.elements(v);
  if (all.empty()) return run.heap().undefined(concat("there is no ", last ? "last" : "first", " element"));
  return last ? all.back() : all.front();
}

KDLIB_FUNC JinjaValue reverse_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  if (v.is_string()) return run.slice(v, JinjaValue::none(), JinjaValue::none(), JinjaValue::of(std::int64_t{-1}));
  const auto all = run.elements(v);
  return run.heap().generator(std::vector<JinjaValue>(all.rbegin(), all.rend()));
}

KDLIB_FUNC JinjaValue length_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return JinjaValue::of(static_cast<std::int64_t>(run.length(v)));
}

KDLIB_FUNC JinjaValue default_filter(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  const auto given = arguments.bind<2>({"default_value", "boolean"});
  if (!v.is(JinjaValue::Kind::undefined) && (!flag(given[1]) || truth(v))) return v;
  return given[0] != nullptr ? *given[0] : JinjaValue::of(std::string_view());
}

KDLIB_FUNC JinjaValue attribute_filter(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const std::string_view name = string_argument(*arguments.bind<1>({"name"}, 1)[0], "attr");
  if (v.is_dict() && !has_method(v, name))
    return run.heap().undefined(concat("'dict' has no attribute '", name, "'"));  // attr looks at no keys
  return run.attribute(v, name);
}

struct JinjaFilterEntry {
  std::string_view name;
  JinjaFilter body;
};

inline constexpr JinjaFilterEntry jinja_filters[] = {{"abs", abs_filter},
                                                     {"attr", attribute_filter},
                                                     {"capitalize", case_filter<capitalize>},
                                                     {"count", length_filter},
                                                     {"d", default_filter},
                                                     {"default", default_filter},
                                                     {"dictsort", dictsort_filter},
                                                     {"e", escape_filter},
                                                     {"escape", escape_filter},
                                                     {"first", end_filter<false>},
                                                     {"float", float_filter},
                                                     {"format", format_filter},
                                                     {"indent", indent_filter},
                                                     {"int", int_filter},
                                                     {"items", items_filter},
                                                     {"join", join_filter},
                                                     {"last", end_filter<true>},
                                                     {"length", length_filter},
                                                     {"list", list_filter},
                                                     {"lower", case_filter<to_lower>},
                                                     {"map", map_filter},
                                                     {"max", extreme_filter<true>},
                                                     {"min", extreme_filter<false>},
                                                     {"reject", select_filter<false, false>},
                                                     {"rejectattr", select_filter<false, true>},
                                                     {"replace", replace_filter},
                                                     {"reverse", reverse_filter},
                                                     {"round", round_filter},
                                                     {"safe", safe_filter},
                                                     {"select", select_filter<true, false>},
                                                     {"selectattr", select_filter<true, true>},
                                                     {"sort", sort_filter},
                                                     {"string", string_filter},
                                                     {"sum", sum_filter},
                                                     {"title", case_filter<title_words>},
                                                     {"tojson", json_filter},
                                                     {"trim", trim_filter},
                                                     {"unique", unique_filter},
                                                     {"upper", case_filter<to_upper>}};

KDLIB_FUNC JinjaFilter find_filter(std::string_view name) {
  for (const JinjaFilterEntry& entry : jinja_filters)
    if (entry.name == name) return entry.body;
  return nullptr;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
