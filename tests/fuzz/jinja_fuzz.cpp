// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a chat template: it is refused, fails or renders within its limits, the same each time.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "kdlib/io/utf8.hpp"
#include "kdlib/text/chat_jinja.hpp"

using namespace kdlib;

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

const std::vector<ChatMessage>& talk() {
  static const std::vector<ChatMessage> messages = chat_messages_from_json(Json::parse(
      R"([{"role": "system", "content": "Be good."}, {"role": "user", "content": "2+2 \u00e9\ud83d\ude00?\n"},)"
      R"({"role": "assistant", "content": "<think>\nhm\n</think>\n\n4", "reasoning_content": "two", "tool_calls":)"
      R"([{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": [1.5, null, true]}}}]},)"
      R"({"role": "tool", "content": "4", "name": "add"}, {"role": "assistant", "content": "four"},)"
      R"({"role": "user", "content": [{"type": "text", "text": "and 3?"}]}])",
      "talk"));
  return messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  RenderOptions options;
  options.clock = JinjaClock{2026, 1, 15, 12, 0, 0};
  options.limits = {.steps = 200'000, .bytes = std::size_t{8} << 20, .depth = 200};
  options.add_generation_prompt = true;
  options.tools = {R"({"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}})"};
  try {
    const JinjaTemplate jinja(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    const detail::JinjaChat chat(jinja, {}, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    const JinjaOutput first = chat.render(talk(), options), again = chat.render(talk(), options);
    must(first.text == again.text && first.generation == again.generation);
    must(find_invalid_utf8(first.text) == std::string::npos);
    for (const detail::ContentPlace& place : chat.contents(talk(), options, first.text, "assistant")) {
      must(!place.begin || *place.begin <= first.text.size());
      must(!place.end || *place.end <= first.text.size());
    }
    options.add_default_system = false;
    chat.render(talk(), options);
    chat.learned(talk(), options, first, {}, {{"</s>"}, {"<s>", "</s>"}});
  } catch (const Error& error) {
    must(find_invalid_utf8(error.what()) == std::string::npos);
  }
  return 0;
}
