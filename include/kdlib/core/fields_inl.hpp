// SPDX-License-Identifier: Apache-2.0
// Templates of fields.hpp. Functions without template parameters are in fields_text_inl.hpp.
#ifndef KDLIB_CORE_FIELDS_INL_HPP
#define KDLIB_CORE_FIELDS_INL_HPP

#include "kdlib/core/fields.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class X, class F>
void visit_members(const X& x, F&& f) {
  constexpr std::size_t n = member_count<X>();
  const auto each = [&](const auto&... members) { (f(members), ...); };
  if constexpr (n == 1) {
    const auto& [a] = x;
    each(a);
  } else if constexpr (n == 2) {
    const auto& [a, b] = x;
    each(a, b);
  } else if constexpr (n == 3) {
    const auto& [a, b, c] = x;
    each(a, b, c);
  } else if constexpr (n == 4) {
    const auto& [a, b, c, d] = x;
    each(a, b, c, d);
  } else if constexpr (n == 5) {
    const auto& [a, b, c, d, e] = x;
    each(a, b, c, d, e);
  } else if constexpr (n == 6) {
    const auto& [a, b, c, d, e, g] = x;
    each(a, b, c, d, e, g);
  } else if constexpr (n == 7) {
    const auto& [a, b, c, d, e, g, h] = x;
    each(a, b, c, d, e, g, h);
  } else if constexpr (n == 8) {
    const auto& [a, b, c, d, e, g, h, i] = x;
    each(a, b, c, d, e, g, h, i);
  }
}

/// True if the text of a member of type V can be compared. The compiler's message names both types where it is false.
template <class Owner, class V>
constexpr bool member_can_be_compared = has_comparable_fields<V>;

/// The value of one field of `Owner`: a text, one number in a type of its own, or fields again.
template <class Owner, class V>
void append_value(SettingsList& list, const std::string& key, const V& value) {
  if constexpr (HasSettingText<V>) {
    list.emplace_back(key, setting_text(value));
  } else if constexpr (HoldsValue<V>) {
    list.emplace_back(key, setting_text(static_cast<double>(value.value())));
  } else {
    static_assert(member_can_be_compared<Owner, V>,
                  "kdlib: a checkpoint cannot compare a member of this type (the arguments of member_can_be_compared "
                  "are the type that has the member, and the member's): give the member's type "
                  "visit_fields(self, f), see kdlib/core/fields.hpp; or give the loss, optimizer or schedule that "
                  "has the member describe(), which returns a SettingsList");
    append_fields(list, key, value);
  }
}

}  // namespace detail

template <std::integral I>
std::string setting_text(const std::vector<I>& values) {
  std::string out;
  for (const I value : values) out.append(out.empty() ? "" : " ").append(std::to_string(value));
  return out;
}
template <NamedEnum E>
std::optional<E> enum_value(std::string_view name) {
  const auto names = enum_names(E{});
  for (std::size_t i = 0; i < names.size(); ++i)
    if (name == names[i]) return static_cast<E>(i);
  return std::nullopt;
}
template <class E>
requires std::is_enum_v<E> std::string setting_text(E value) {
  const auto number = static_cast<std::int64_t>(value);
  if constexpr (NamedEnum<E>) {
    const auto names = enum_names(value);
    if (number >= 0 && number < static_cast<std::int64_t>(names.size())) return names[static_cast<std::size_t>(number)];
  }
  return std::to_string(number);
}

template <class X>
void append_fields(SettingsList& list, const std::string& prefix, const X& x) {
  if constexpr (HasFields<X>) {
    visit_fields(x, [&](const FieldInfo& field, const auto& value) {
      using V = std::remove_cvref_t<decltype(value)>;
      if constexpr (detail::HasSettingText<V> || detail::HoldsValue<V> || has_comparable_fields<V>) {
        if (field.compared) detail::append_value<X>(list, prefix + "." + field.name, value);
      } else {
        require(!field.compared, "[fields] ", prefix, ".", field.name, " has no text; list it with compared = false");
      }
    });
  } else if constexpr (!std::is_empty_v<X>) {
    static_assert(detail::has_plain_members<X>,
                  "kdlib: a checkpoint cannot compare the settings of this type: give it visit_fields(self, f), see "
                  "kdlib/core/fields.hpp; a loss, optimizer or schedule may have describe() instead, which returns a "
                  "SettingsList");
    int place = 0;
    detail::visit_members(
        x, [&](const auto& member) { detail::append_value<X>(list, concat(prefix, ".member_", place++), member); });
  }
}

template <class X>
SettingsList named_fields(const std::string& role, const X& x) {
  SettingsList list = {{role, plain_type_name<X>()}};
  append_fields(list, role, x);
  return list;
}

template <class X>
std::string plain_type_name() {
  return detail::plain_name_in(__PRETTY_FUNCTION__);
}

KDLIB_NAMESPACE_END

#endif
