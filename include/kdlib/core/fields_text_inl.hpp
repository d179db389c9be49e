// SPDX-License-Identifier: Apache-2.0
// Bodies of fields.hpp without template parameters: texts of numbers, and names that are near to others.
#ifndef KDLIB_CORE_FIELDS_TEXT_INL_HPP
#define KDLIB_CORE_FIELDS_TEXT_INL_HPP

#include <algorithm>
#include <charconv>
#include <utility>

#include "kdlib/core/fields.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class N>
std::string number_digits(N value) {
  char text[48];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}
KDLIB_FUNC std::string shortest_number_text(double value) { return number_digits(value); }
KDLIB_FUNC std::string shortest_number_text(float value) { return number_digits(value); }

/// The table of edits between a and the beginnings of b, row by row from its first, `row`, to its last.
KDLIB_FUNC std::vector<std::size_t> edited_row(std::string_view a, std::string_view b, std::vector<std::size_t> row) {
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1] ? 1u : 0u)});
      diagonal = above;
    }
  }
  return row;
}

KDLIB_FUNC std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  return edited_row(a, b, std::move(row)).back();
}

KDLIB_FUNC std::size_t partial_distance(std::string_view piece, std::string_view text) {
  const std::vector<std::size_t> row = edited_row(piece, text, std::vector<std::size_t>(text.size() + 1, 0));
  return *std::min_element(row.begin(), row.end());
}

KDLIB_FUNC std::string plain_name_in(std::string_view text) {
  text = text.substr(text.find("X = ") + 4);
  text = text.substr(0, text.find_first_of(";<]"));
  const std::size_t colon = text.rfind(':');
  return std::string(colon == std::string_view::npos ? text : text.substr(colon + 1));
}

}  // namespace detail

KDLIB_FUNC std::string setting_text(double value) { return detail::shortest_number_text(value); }
KDLIB_FUNC std::string setting_text(float value) { return detail::shortest_number_text(value); }
KDLIB_FUNC std::string setting_text(bool value) { return value ? "true" : "false"; }

KDLIB_FUNC std::string snake_case(std::string_view type_name) {
  std::string out;
  for (const char c : type_name) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && !out.empty()) out += '_';
    out += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return out;
}

KDLIB_FUNC std::vector<std::string> nearest_names(std::string_view text, const std::vector<std::string>& names) {
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

KDLIB_FUNC std::string did_you_mean(std::string_view text, const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : nearest_names(text, names)) out += (out.empty() ? "; did you mean " : " or ") + name;
  return out.empty() ? out : out + "?";
}

KDLIB_NAMESPACE_END

#endif
