// SPDX-License-Identifier: Apache-2.0
// Bodies of canary.hpp.
#ifndef KDLIB_RECIPE_CANARY_INL_HPP
#define KDLIB_RECIPE_CANARY_INL_HPP

#include <array>
#include <set>

#include "kdlib/io/jsonl.hpp"
#include "kdlib/recipe/canary.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC CanaryLines read_canary(const std::string& path, const Tokenizer& tokenizer,
                                   const std::function<std::vector<std::int32_t>(std::string_view)>& ask) {
  CanaryLines lines;
  JsonlReader reader(path);
  while (const auto line = reader.next()) {
    if (!line->is_object()) line->refuse("is no object; a line has \"text\" or \"prompt\"");
    const auto text = line->find_set("text"), prompt = line->find_set("prompt");
    if (text.has_value() == prompt.has_value()) line->refuse("needs \"text\" or \"prompt\", one of the two");
    if (prompt) {
      lines.prompts.push_back(ask(prompt->as_string()));
      continue;
    }
    lines.texts.push_back(tokenizer.encode(text->as_string(), SpecialTokens::plain));
    if (lines.texts.back().size() < 2) text->refuse("is shorter than two tokens: none of them has one before it");
  }
  require<InputError>(!lines.texts.empty() || !lines.prompts.empty(), "[canary] ", path, " has no lines");
  return lines;
}

KDLIB_FUNC double repeated_fours(std::span<const std::int32_t> text) {
  if (text.size() < 5) return 0;
  std::set<std::array<std::int32_t, 4>> seen;
  const std::size_t runs = text.size() - 3;
  for (std::size_t i = 0; i < runs; ++i) seen.insert({text[i], text[i + 1], text[i + 2], text[i + 3]});
  return 1 - static_cast<double>(seen.size()) / static_cast<double>(runs);
}

KDLIB_NAMESPACE_END

#endif
