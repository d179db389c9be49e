// SPDX-License-Identifier: Apache-2.0
// Bodies of fields.hpp.
#ifndef KDLIB_CORE_FIELDS_INL_HPP
#define KDLIB_CORE_FIELDS_INL_HPP

#include <algorithm>
#include <charconv>

#include "kdlib/core/fields.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Shortest text that reads back as the same number.
template <class N>
std::string shortest_number_text(N value) {
  char text[48];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

/// Insertions, deletions and replacements that make b of a.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1] ? 1u : 0u)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

/// Edits that make `piece` of some part of `text`.
inline std::size_t partial_distance(std::string_view piece, std::string_view text) {
  std::vector<std::size_t> row(text.size() + 1, 0);
  for (std::size_t i = 1; i <= piece.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= text.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (piece[i - 1] != text[j - 1] ? 1u : 0u)});
      diagonal = above;
    }
  }
  return *std::min_element(row.begin(), row.end());
}

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

/// The value of one field: a text, one number in a type of its own, or fields again.
template <class V>
void append_value(SettingsList& list, const std::string& key, const V& value) {
  if constexpr (HasSettingText<V>) {
    list.emplace_back(key, setting_text(value));
  } else if constexpr (HoldsValue<V>) {
    list.emplace_back(key, setting_text(static_cast<double>(value.value())));
  } else {
    static_assert(has_comparable_fields<V>,
                  "kdlib: a checkpoint cannot compare this member: give its type visit_fields(self, f), see "
                  "kdlib/core/fields.hpp");
    append_fields(list, key, value);
  }
}

}  // namespace detail

inline std::string setting_text(double value) { return detail::shortest_number_text(value); }
inline std::string setting_text(float value) { return detail::shortest_number_text(value); }
inline std::string setting_text(bool value) { return value ? "true" : "false"; }
template <std::integral I>
std::string setting_text(const std::vector<I>& values) {
  std::string out;
  for (const I value : values) out.append(out.empty() ? "" : " ").append(std::to_string(value));
  return out;
}
template <NamedEnum E>
std::optional<E> enum_value(std::string_view name) {
  const auto names = enum_names(E{});
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<E>(found - names.begin());
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
        if (field.compared) detail::append_value(list, prefix + "." + field.name, value);
      } else {
        require(!field.compared, "[fields] ", prefix, ".", field.name, " has no text; list it with compared = false");
      }
    });
  } else if constexpr (!std::is_empty_v<X>) {
    static_assert(detail::has_plain_members<X>,
                  "kdlib: a checkpoint cannot compare the settings of this type: give it visit_fields(self, f), see "
                  "kdlib/core/fields.hpp");
    int place = 0;
    detail::visit_members(
        x, [&](const auto& member) { detail::append_value(list, concat(prefix, ".member_", place++), member); });
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
  std::string_view text = __PRETTY_FUNCTION__;
  text = text.substr(text.find("X = ") + 4);
  text = text.substr(0, text.find_first_of(";<]"));
  const std::size_t colon = text.rfind(':');
  return std::string(colon == std::string_view::npos ? text : text.substr(colon + 1));
}

inline std::string snake_case(std::string_view type_name) {
  std::string out;
  for (const char c : type_name) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && !out.empty()) out += '_';
    out += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return out;
}

inline std::vector<std::string> nearest_names(std::string_view text, const std::vector<std::string>& names) {
  std::vector<std::pair<std::size_t, std::string>> near;
  const std::size_t most = std::max<std::size_t>(2, text.size() / 3);
  for (const std::string& name : names) {
    const std::size_t distance = detail::edit_distance(text, name);
    if (distance <= most) near.emplace_back(distance, name);
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> out;
  for (const auto& entry : near)
    if (out.size() < 3) out.push_back(entry.second);
  return out;
}

inline std::string did_you_mean(std::string_view text, const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : nearest_names(text, names)) out += (out.empty() ? "; did you mean " : " or ") + name;
  return out.empty() ? out : out + "?";
}

KDLIB_NAMESPACE_END

#endif
