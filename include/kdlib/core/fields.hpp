// SPDX-License-Identifier: Apache-2.0
// The fields of a settings type as a list that programs can walk. Checkpoints compare the list, and YAML, --help,
// reports and the parser of losses are made from it.
//
// A type lists its fields once:
//
//   template <class Self, class F>
//   static void visit_fields(Self& self, F&& f) {
//     f(FieldInfo{"temperature", "", "> 0", "both models' logits are divided by it"}, self.temperature);
//   }
//
// Self may be const. A value that is a template argument of the type is listed too, as a constant with `fixed` set. The
// function f takes the value as `auto&`, which is const for a constant.
// A type without a list can be compared, too, if it is an aggregate of up to 8 numbers, enumerations, texts or such
// aggregates: its members are compared by their place.
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

/// Settings as (key, value) texts. A checkpoint keeps the list. A later run with another value is refused; the message
/// names the key.
using SettingsList = std::vector<std::pair<std::string, std::string>>;

/// The facts about a field that a program can print.
struct FieldInfo {
  const char* name = "";
  const char* unit = "";   // "steps", "tokens"; empty: a pure number
  const char* range = "";  // "> 0", "in [0, 1)"; empty: no limit
  const char* help = "";   // one phrase
  bool fixed = false;      // true: a template argument, which cannot be set
  bool compared = true;    // false: the field changes no number of a run, and a checkpoint does not keep it
};

/// Returns the text of a value. Numbers have the shortest form that reads back as the same number; the elements of a
/// vector are separated by spaces.
std::string setting_text(double value);
std::string setting_text(float value);
std::string setting_text(bool value);
template <std::integral I>
std::string setting_text(I value) {
  return std::to_string(value);
}
inline std::string setting_text(const std::string& value) { return value; }
inline std::string setting_text(std::string_view value) { return std::string(value); }
/// The text, not the address; nullptr is the empty text.
inline std::string setting_text(const char* value) { return value == nullptr ? "" : value; }
template <std::integral I>
std::string setting_text(const std::vector<I>& values);

/// An enumeration whose values have names. A function `enum_names(E)` in the namespace of E returns the names in order,
/// from value 0 on.
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  enum_names(e)[0];
};
template <class E>
requires std::is_enum_v<E> std::string setting_text(E value);
/// Returns the value of that name, or nothing if no value has it.
template <NamedEnum E>
std::optional<E> enum_value(std::string_view name);

namespace detail {
/// Returns the shortest text that reads back as the same number.
std::string shortest_number_text(double value);
std::string shortest_number_text(float value);
/// Returns the least number of insertions, deletions and replacements of characters that turn a into b.
std::size_t edit_distance(std::string_view a, std::string_view b);
/// Returns the least number of such edits that turn some part of `text` into `piece`.
std::size_t partial_distance(std::string_view piece, std::string_view text);
/// Returns the name of X, such as "ReverseKl", from the text __PRETTY_FUNCTION__ of a template of X.
std::string plain_name_in(std::string_view text);

struct VisitsNothing {
  template <class V>
  void operator()(const FieldInfo&, V&&) const {}
};
}  // namespace detail

/// A type that lists its fields itself by visit_fields().
template <class X>
concept HasFields = requires(X& x, detail::VisitsNothing f) {
  X::visit_fields(x, f);
};

namespace detail {
template <class X>
concept HasSettingText = requires(const X& x) {
  { setting_text(x) } -> std::same_as<std::string>;
};
/// A class that holds one number, such as the sampling temperature, and returns the number by value().
template <class X>
concept HoldsValue = requires(const X& x) {
  { x.value() } -> std::convertible_to<double>;
};

/// Converts to every type. AnyMember only serves to ask the compiler how a type can be initialised; the conversion has
/// no body.
struct AnyMember {
  template <class X>
  operator X() const noexcept;
};
template <class X, std::size_t... I>
constexpr bool takes_members(std::index_sequence<I...>) {
  return requires { X{(static_cast<void>(I), AnyMember{})...}; };
}
/// Returns the number of members of an aggregate, at most `Most`.
template <class X, std::size_t Most = 24>
constexpr std::size_t member_count() {
  if constexpr (Most == 0) return 0;
  else if constexpr (takes_members<X>(std::make_index_sequence<Most>{})) return Most;
  else return member_count<X, Most - 1>();
}

/// Calls f(member) for each member of an aggregate of 1 to 8 members, in order.
template <class X, class F>
void visit_members(const X& x, F&& f);

/// True for an aggregate whose members visit_members() can reach.
template <class X>
constexpr bool has_plain_members = [] {
  if constexpr (std::is_aggregate_v<X> && !std::is_array_v<X>) return member_count<X>() >= 1 && member_count<X>() <= 8;
  else return false;
}();
}  // namespace detail

/// True if append_fields() can write the values of a type as texts to compare.
template <class X>
constexpr bool has_comparable_fields = HasFields<X> || std::is_empty_v<X> || detail::has_plain_members<X>;

/// Calls f(field, value) for each field that the type lists.
template <class X, class F>
void visit_fields(X& x, F&& f) {
  std::remove_const_t<X>::visit_fields(x, static_cast<F&&>(f));
}

/// Adds the key "<prefix>.<field>" and the text of the value for each field of x, including the fields of fields.
/// Fields with `compared` = false are left out. Members of types without a list are called member_0, member_1, ...
template <class X>
void append_fields(SettingsList& list, const std::string& prefix, const X& x);

/// Returns {role, name of the type X} and then the fields of x as "<role>.<field>".
template <class X>
SettingsList named_fields(const std::string& role, const X& x);

/// Returns the name of the type X without namespaces and template arguments, such as "ReverseKl" for kdlib::ReverseKl.
/// g++ and clang give the same name.
template <class X>
std::string plain_type_name();
/// Returns the name in small letters with underscores, such as "top_k_forward_kl" for TopKForwardKl.
std::string snake_case(std::string_view type_name);

/// Returns up to three of `names` that are similar to `text`, the most similar first, for "did you mean" in messages.
std::vector<std::string> nearest_names(std::string_view text, const std::vector<std::string>& names);
/// Returns "; did you mean a or b?", or an empty text if no name is similar.
std::string did_you_mean(std::string_view text, const std::vector<std::string>& names);

KDLIB_NAMESPACE_END

#include "kdlib/core/fields_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/core/fields_text_inl.hpp"
#endif

#endif
