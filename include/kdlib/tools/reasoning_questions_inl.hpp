// SPDX-License-Identifier: Apache-2.0
// How reasoning_run.hpp asks the questions of canary lines.
#ifndef KDLIB_TOOLS_REASONING_QUESTIONS_INL_HPP
#define KDLIB_TOOLS_REASONING_QUESTIONS_INL_HPP

#include "kdlib/data/reasoning_rows.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/harmony.hpp"
#include "kdlib/tools/reasoning_run.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_TOOLS_FUNC std::vector<std::int32_t> ask_like(std::vector<std::int32_t> prompt, std::size_t end_length,
                                                    const Tokenizer& tokenizer, std::string_view question) {
  const HarmonyTokens t = HarmonyTokens::of(tokenizer);
  const std::vector<std::int32_t> end(prompt.end() - static_cast<std::ptrdiff_t>(end_length), prompt.end());
  prompt.resize(prompt.size() - end_length);
  while (!prompt.empty() && prompt.back() != t.message) prompt.pop_back();  // the user's content and its end
  tokenizer.encode_append(question, prompt, {.special = SpecialTokens::plain});
  prompt.push_back(t.end);
  prompt.insert(prompt.end(), end.begin(), end.end());
  return prompt;
}

KDLIB_TOOLS_FUNC std::vector<std::int32_t> ask_by_template(const TokenShards& files, const Tokenizer& tokenizer,
                                                           std::string_view question) {
  const Json made = Json::parse_file(join_path(files.root(), "manifest.json")).at("made_of").at("settings");
  const RowRenderer renderer(tokenizer, {.max_length = 1 << 20,
                                         .effort = made.string_or("effort", "").empty() ? "" : "medium",
                                         .instructions = std::string(made.string_or("instructions", "")),
                                         .chat_template = files.chat_template()});
  RowDocument document;
  const RowSkip skip = renderer.render({"canary", "", "", "", std::string(question), "?", "?"}, document);
  require<InputError>(skip == RowSkip::none, "[canary] the question '", printable(question),
                      "' cannot be asked: ", enum_names(RowSkip::none)[static_cast<std::size_t>(skip)]);
  document.ids.resize(static_cast<std::size_t>(document.prompt));
  return document.ids;
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
