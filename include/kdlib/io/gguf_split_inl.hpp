// SPDX-License-Identifier: Apache-2.0
// Bodies of io/gguf_split.hpp.
#ifndef KDLIB_IO_GGUF_SPLIT_INL_HPP
#define KDLIB_IO_GGUF_SPLIT_INL_HPP

#include "kdlib/io/gguf_split.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Five digits; -1 for anything else.
KDLIB_FUNC std::int64_t five_digits(std::string_view text) {
  std::int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
  }
  return text.size() == 5 ? value : -1;
}

KDLIB_FUNC std::string in_five_digits(std::int64_t value) {
  const std::string digits = std::to_string(value);
  return digits.size() < 5 ? std::string(5 - digits.size(), '0') + digits : digits;
}

}  // namespace detail

KDLIB_FUNC std::string GgufPartName::path_of(std::int64_t other) const {
  return prefix + "-" + detail::in_five_digits(other) + "-of-" + detail::in_five_digits(count) + ".gguf";
}

KDLIB_FUNC std::optional<GgufPartName> gguf_part_name(std::string_view path) {
  constexpr std::string_view form = "-00000-of-00000.gguf";
  if (path.size() < form.size()) return std::nullopt;
  const std::string_view end = path.substr(path.size() - form.size());
  GgufPartName name;
  name.prefix = path.substr(0, path.size() - form.size());
  name.number = detail::five_digits(end.substr(1, 5));
  name.count = detail::five_digits(end.substr(10, 5));
  if (end[0] != '-' || end.substr(6, 4) != "-of-" || end.substr(15) != ".gguf") return std::nullopt;
  if (name.number < 1 || name.number > name.count) return std::nullopt;
  return name;
}

KDLIB_FUNC std::vector<std::string> gguf_part_paths(const std::string& path) {
  const std::optional<GgufPartName> name = gguf_part_name(path);
  if (!name) return {path};
  std::vector<std::string> paths;
  for (std::int64_t i = 1; i <= name->count; ++i) paths.push_back(name->path_of(i));
  return paths;
}

KDLIB_NAMESPACE_END

#endif
