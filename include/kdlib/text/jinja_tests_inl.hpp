// SPDX-License-Identifier: Apache-2.0
// What may stand behind `is`.
#ifndef KDLIB_TEXT_JINJA_TESTS_INL_HPP
#define KDLIB_TEXT_JINJA_TESTS_INL_HPP

#include "kdlib/text/jinja_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

using JinjaKind = JinjaValue::Kind;

template <JinjaKind... kinds>
bool kind_test(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return (v.is(kinds) || ...);
}

template <bool wanted>
bool constant_test(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return v.is(JinjaKind::boolean) && v.boolean == wanted;
}

KDLIB_FUNC bool defined_test(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return !v.is(JinjaKind::undefined);
}

KDLIB_FUNC bool number_test(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return v.is_number();
}

KDLIB_FUNC bool iterable_test(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return v.is_string() || v.is_sequence() || v.is_dict() || v.is(JinjaKind::undefined);
}

/// Python can ask these for their length and an element.
KDLIB_FUNC bool sequence_test(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return v.is_string() || v.is_dict() || v.is(JinjaKind::undefined) || (v.is_sequence() && !v.list->generator);
}

template <bool odd>
bool parity_test(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  return (run.integer_of(v, arguments.what) % 2 != 0) == odd;
}

template <bool upper>
bool case_test(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  JinjaValue words = JinjaValue::of(run.string_of(v));
  return call_method(run, words, upper ? "isupper" : "islower", {upper ? "isupper" : "islower", {}, {}}).boolean;
}

template <JinjaOp op>
bool compare_test(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const JinjaValue& other = *arguments.bind<1>({"other"}, 1)[0];
  JinjaHeap& heap = run.heap();
  switch (op) {
    case JinjaOp::equal:
      return equal(heap, v, other);
    case JinjaOp::not_equal:
      return !equal(heap, v, other);
    case JinjaOp::less:
      return less(heap, v, other);
    case JinjaOp::greater:
      return less(heap, other, v);
    case JinjaOp::less_equal:
      return less(heap, v, other) || equal(heap, v, other);
    case JinjaOp::greater_equal:
      return less(heap, other, v) || equal(heap, v, other);
    default:
      return run.contains(other, v);
  }
}

KDLIB_FUNC bool same_test(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  const JinjaValue& other = *arguments.bind<1>({"other"}, 1)[0];
  if (v.is_sequence() || v.is_dict()) return v.kind == other.kind && v.text == other.text;  // the same object
  return v.kind == other.kind && equal(run.heap(), v, other);
}

KDLIB_FUNC bool divisible_test(JinjaRun& run, const JinjaValue& v, const JinjaArguments& arguments) {
  return run.arithmetic(JinjaOp::modulo, v, *arguments.bind<1>({"num"}, 1)[0]).as_real() == 0;
}

KDLIB_FUNC bool callable_test(JinjaRun&, const JinjaValue& v, const JinjaArguments& arguments) {
  arguments.none();
  // An undefined value is an object with a call operator that fails.
  return v.is(JinjaKind::macro) || v.is(JinjaKind::method) || v.is(JinjaKind::function) || v.is(JinjaKind::undefined);
}

struct JinjaTestEntry {
  std::string_view name;
  JinjaTest body;
};

inline constexpr JinjaTestEntry jinja_tests[] = {{"defined", defined_test},
                                                 {"undefined", kind_test<JinjaKind::undefined>},
                                                 {"none", kind_test<JinjaKind::none>},
                                                 {"boolean", kind_test<JinjaKind::boolean>},
                                                 {"true", constant_test<true>},
                                                 {"false", constant_test<false>},
                                                 {"integer", kind_test<JinjaKind::integer, JinjaKind::natural>},
                                                 {"float", kind_test<JinjaKind::real>},
                                                 {"number", number_test},
                                                 {"string", kind_test<JinjaKind::string>},
                                                 {"mapping", kind_test<JinjaKind::dict>},
                                                 {"iterable", iterable_test},
                                                 {"sequence", sequence_test},
                                                 {"callable", callable_test},
                                                 {"odd", parity_test<true>},
                                                 {"even", parity_test<false>},
                                                 {"upper", case_test<true>},
                                                 {"lower", case_test<false>},
                                                 {"sameas", same_test},
                                                 {"divisibleby", divisible_test},
                                                 {"in", compare_test<JinjaOp::in>},
                                                 {"eq", compare_test<JinjaOp::equal>},
                                                 {"equalto", compare_test<JinjaOp::equal>},
                                                 {"==", compare_test<JinjaOp::equal>},
                                                 {"ne", compare_test<JinjaOp::not_equal>},
                                                 {"!=", compare_test<JinjaOp::not_equal>},
                                                 {"lt", compare_test<JinjaOp::less>},
                                                 {"lessthan", compare_test<JinjaOp::less>},
                                                 {"<", compare_test<JinjaOp::less>},
                                                 {"le", compare_test<JinjaOp::less_equal>},
                                                 {"<=", compare_test<JinjaOp::less_equal>},
                                                 {"gt", compare_test<JinjaOp::greater>},
                                                 {"greaterthan", compare_test<JinjaOp::greater>},
                                                 {">", compare_test<JinjaOp::greater>},
                                                 {"ge", compare_test<JinjaOp::greater_equal>},
                                                 {">=", compare_test<JinjaOp::greater_equal>}};

KDLIB_FUNC JinjaTest find_test(std::string_view name) {
  for (const JinjaTestEntry& entry : jinja_tests)
    if (entry.name == name) return entry.body;
  return nullptr;
}

KDLIB_FUNC bool JinjaRun::test(std::string_view name, const JinjaValue& subject,
                               std::span<const JinjaValue> arguments) {
  const JinjaTest body = find_test(name);
  if (body == nullptr) jinja_fail(JinjaError::Kind::unknown, "there is no test named ", name);
  return body(*this, subject, {name, arguments, {}});
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
