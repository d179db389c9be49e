// SPDX-License-Identifier: Apache-2.0
// The fields of a settings type as a list that programs can walk: checkpoints compare it, YAML, --help, reports and
// the parser of losses are made from it.
//
// A type lists its fields once:
//
//   template <class Self, class F>
//   static void visit_fields(Self& self, F&& f) {
//     f(FieldInfo{"temperature", "", "> 0", "both models' logits are divided by it"}, self.temperature);
//   }
//
// Self may be const. A value that is an argument of the template is listed too, as a constant with `fixed` set. The
// function f takes the value as `auto&`, which is const for a constant.
// An aggregate of up to 8 numbers, enumerations, texts or such aggregates needs no list: its members are compared by
// their place.
#ifndef KDLIB_CORE_FIELDS_HPP
#define KDLIB_CORE_FIELDS_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings as (key, value) texts. A checkpoint keeps them; a later run with another value is refused, naming the key.
using SettingsList = std::vector<std::pair<std::string, std::string>>;

/// What a program can say about a field.
struct FieldInfo {
  const char* name = "";
  const char* unit = "";   // "steps", "tokens"; empty: a pure number
  const char* range = "";  // "> 0", "in [0, 1)"; empty: no limit
  const char* help = "";   // one phrase
  bool fixed = false;      // a template argument: it cannot be set
  bool compared = true;    // false: it changes no number of a run, and a checkpoint does not keep it
};

/// The text of a value; numbers in the shortest form that reads back as the same number.
std::string setting_text(double value);
std::string setting_text(float value);
std::string setting_text(bool value);
template <std::integral I>
std::string setting_text(I value) {
  return std::to_string(value);
}
inline std::string setting_text(const std::string& value) { return value; }
template <std::integral I>
std::string setting_text(const std::vector<I>& values);

/// An enumeration whose values have names: `enum_names(E{})` is found beside it and gives them in order, from value 0
/// on.
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  enum_names(e)[0];
};
template <class E>
requires std::is_enum_v<E> std::string setting_text(E value);
/// The value of that name, if there is one.
template <NamedEnum E>
std::optional<E> enum_value(std::string_view name);

namespace detail {
/// The shortest text that reads back as the same number.
std::string shortest_number_text(double value);
std::string shortest_number_text(float value);
/// Insertions, deletions and replacements that make b of a.
std::size_t edit_distance(std::string_view a, std::string_view b);
/// Edits that make `piece` of some part of `text`.
std::size_t partial_distance(std::string_view piece, std::string_view text);
/// "ReverseKl" of __PRETTY_FUNCTION__ in a template of X.
std::string plain_name_in(std::string_view text);

struct VisitsNothing {
  template <class V>
  void operator()(const FieldInfo&, V&&) const {}
};
}  // namespace detail

/// The type lists its fields itself.
template <class X>
concept HasFields = requires(X& x, detail::VisitsNothing f) {
  X::visit_fields(x, f);
};

namespace detail {
template <class X>
concept HasSettingText = requires(const X& x) {
  { setting_text(x) } -> std::same_as<std::string>;
};
/// A type of its own that holds one number, as the sampling temperature does.
template <class X>
concept HoldsValue = requires(const X& x) {
  { x.value() } -> std::convertible_to<double>;
};

/// Converts to every type. Only for questions about initialisation; it has no body.
struct AnyMember {
  template <class X>
  operator X() const noexcept;
};
template <class X, std::size_t... I>
constexpr bool takes_members(std::index_sequence<I...>) {
  return requires { X{(static_cast<void>(I), AnyMember{})...}; };
}
/// Members of an aggregate, up to `Most`.
template <class X, std::size_t Most = 24>
constexpr std::size_t member_count() {
  if constexpr (Most == 0) return 0;
  else if constexpr (takes_members<X>(std::make_index_sequence<Most>{})) return Most;
  else return member_count<X, Most - 1>();
}

/// f(member) for each member of an aggregate of 1 to 8 members, in order.
template <class X, class F>
void visit_members(const X& x, F&& f);

/// An aggregate without a list whose members visit_members() can reach.
template <class X>
constexpr bool has_plain_members = [] {
  if constexpr (std::is_aggregate_v<X> && !std::is_array_v<X>) return member_count<X>() >= 1 && member_count<X>() <= 8;
  else return false;
}();
}  // namespace detail

/// Whether append_fields can compare such a value.
template <class X>
constexpr bool has_comparable_fields = HasFields<X> || std::is_empty_v<X> || detail::has_plain_members<X>;

/// f(field, value) for each field that the type lists.
template <class X, class F>
void visit_fields(X& x, F&& f) {
  std::remove_const_t<X>::visit_fields(x, static_cast<F&&>(f));
}

/// Adds "<prefix>.<field>" and the value's text for each field of x, fields of fields included. Members of types
/// without a list are called member_0, member_1, ...
template <class X>
void append_fields(SettingsList& list, const std::string& prefix, const X& x);

/// {role, the type's name} and its fields as "<role>.<field>".
template <class X>
SettingsList named_fields(const std::string& role, const X& x);

/// "ReverseKl" for kdlib::ReverseKl: the type's own name without namespaces and template arguments, the same from g++
/// and clang.
template <class X>
std::string plain_type_name();
/// "top_k_forward_kl" for TopKForwardKl.
std::string snake_case(std::string_view type_name);

/// Up to three of `names` that are near to `text`, nearest first: for "did you mean" in messages.
std::vector<std::string> nearest_names(std::string_view text, const std::vector<std::string>& names);
/// "; did you mean a or b?", or nothing where no name is near.
std::string did_you_mean(std::string_view text, const std::vector<std::string>& names);

KDLIB_NAMESPACE_END

#include "kdlib/core/fields_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/core/fields_text_inl.hpp"
#endif

#endif
