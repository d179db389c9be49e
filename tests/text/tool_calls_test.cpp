// SPDX-License-Identifier: Apache-2.0
// Calls of tools are read back in the form in which a chat template writes them.
#include <algorithm>

#include "kdlib/text/tool_calls.hpp"

#include "kdlib/text/chat_jinja.hpp"
#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// A template of turns <role>...<end>, whose assistant's calls are written by `calls`.
ChatTemplate written(const std::string& calls) {
  return ChatTemplate::jinja(JinjaTemplate(
      "{%- if tools %}<tools>{{ tools|length }}</tools>{% endif %}{%- for m in messages %}<{{ m.role }}>{{ m.content }}"
      "{%- if m.tool_calls %}" +
          calls + "{% endif %}<end>{% endfor %}{%- if add_generation_prompt %}<assistant>{% endif %}",
      "own"));
}

std::string summary(const std::vector<WrittenCall>& calls) {
  std::string out;
  for (const WrittenCall& c : calls)
    out += c.problem.empty() ? c.call.name + c.call.arguments + ";" : "!" + c.problem + ";";
  return out;
}

const std::string hermes =
    "{% for c in m.tool_calls %}\n<call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": "
    "{{ c.function.arguments | tojson }}}\n</call>{% endfor %}";
const std::string array =
    "[CALLS] [{% for c in m.tool_calls %}{{ c.function | tojson }}{% if not loop.last %}, {% endif %}"
    "{% endfor %}]";
const std::string bare =
    "{% if m.tool_calls|length != 1 %}{{ raise_exception('one call') }}{% endif %}{\"name\": "
    "\"{{ m.tool_calls[0].function.name }}\", \"parameters\": "
    "{{ m.tool_calls[0].function.arguments | tojson }}}";
const std::string named =
    "<calls>{% for c in m.tool_calls %}<one>{{ c.function.name }}<sep>{{ c.function.arguments | "
    "tojson }}</one>{% endfor %}</calls>";
const std::string quoted =
    "{% for c in m.tool_calls %}<f>{{ {'function': {'name': c.function.name, 'arguments': "
    "c.function.arguments | tojson}} | tojson }}</f>{% endfor %}";

}  // namespace

TEST_CASE("the form of calls is learned from the template", "[text]") {
  const ToolCallFormat a = ToolCallFormat::of(written(hermes));
  CHECK(a.opening() == "<call>");
  CHECK(summary(
            a.read("So.\n<call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"}\"}}\n</call>\n<call>{\"name\":\"g\"}")) ==
        "f{\"x\": \"}\"};g{};");
  CHECK(a.read("no call").empty());

  const ToolCallFormat b = ToolCallFormat::of(written(array));
  CHECK(b.opening() == "[CALLS]");
  CHECK(b.is_array());
  CHECK(summary(b.read("[CALLS][{\"name\":\"f\",\"arguments\":{\"x\":1}},{\"name\":\"g\",\"arguments\":{}}]")) ==
        "f{\"x\": 1};g{};");

  const ToolCallFormat c = ToolCallFormat::of(written(bare));
  CHECK(c.opening().empty());
  CHECK(summary(c.read("\n{\"name\": \"f\", \"parameters\": {\"x\": 1.5}}")) == "f{\"x\": 1.5};");
  CHECK(c.read("In JSON: {\"name\": \"f\"}").empty());  // only an answer that begins with an object is a call
  CHECK(c.read("{ no JSON").empty());

  const ToolCallFormat d = ToolCallFormat::of(written(named));
  CHECK(d.opening() == "<one>");
  CHECK(d.middle() == "<sep>");
  CHECK(summary(d.read("<calls><one>f<sep>{\"x\": [1]}</one><one>g<sep>{}</one></calls>")) == "f{\"x\": [1]};g{};");

  const ToolCallFormat e = ToolCallFormat::of(written(quoted));
  CHECK(summary(e.read("<f>{\"function\": {\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 2}\"}}</f>")) ==
        "f{\"x\": 2};");

  const ToolCallFormat qwen = ToolCallFormat::of(ChatTemplate::qwen3());
  CHECK(qwen.opening() == "<tool_call>");  // not the empty thought in front of it
  CHECK(ToolCallFormat::of(ChatTemplate::qwen2_5()).opening() == "<tool_call>");
  const ToolCallFormat harmony = ToolCallFormat::of(ChatTemplate::harmony());
  CHECK(summary(harmony.read("<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>commentary "
                             "to=functions.f <|constrain|>json<|message|>{\"x\": 1}")) == "f{\"x\": 1};");
}

TEST_CASE("a call that is broken is named, and never an exception", "[text]") {
  const ToolCallFormat a = ToolCallFormat::of(written(hermes)), b = ToolCallFormat::of(written(array)),
                       d = ToolCallFormat::of(written(named));
  CHECK_THAT(summary(a.read("<call>{\"name\": \"f\", \"arguments\": {")), contains("does not end"));
  CHECK_THAT(summary(a.read("<call>f(1)</call>")), contains("no JSON object"));
  CHECK_THAT(summary(a.read("<call>{\"name\": }</call>")), contains("no JSON object"));
  CHECK_THAT(summary(a.read("<call>{\"arguments\": {}}</call>")), contains("has no \"name\""));
  CHECK_THAT(summary(a.read("<call>{\"name\": \"f\", \"arguments\": 3}</call>")), contains("\"arguments\""));
  CHECK_THAT(summary(b.read("[CALLS]{\"name\": \"f\"}")), contains("no JSON array"));
  CHECK_THAT(summary(b.read("[CALLS][1]")), contains("no JSON object"));
  CHECK_THAT(summary(d.read("<one>f</one>")), contains("<sep>"));
  CHECK_THAT(summary(d.read("<one>f<sep>x")), contains("arguments"));
  CHECK(a.read("<call>{\"name\": \"\xFF\"}</call>").size() == 1);
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "<call>{\"name\": \"f\"}</call>";
  CHECK(a.read(many).size() == ToolCallFormat::max_calls);
  CHECK(a.read("<call>" + std::string(100000, '[')).size() == 1);
}

TEST_CASE("templates without a place for calls are refused by name", "[text]") {
  CHECK_THROWS_WITH(ToolCallFormat::of(ChatTemplate::chatml()), contains("no place for tools"));
  CHECK_THROWS_WITH(ToolCallFormat::of(written("{{ raise_exception('no calls') }}")), contains("own refuses"));
  CHECK_THROWS_WITH(ToolCallFormat::of(written("called {{ m.tool_calls[0].function.name }}")),
                    contains("writes calls in a form"));
}

TEST_CASE("published templates: a call that is rendered is read back, or the template is refused", "[text]") {
  const auto folder = shared_file("reference/chat_templates");
  if (!folder) KDLIB_SKIP("reference/chat_templates is not here (set KDLIB_SHARED_DIR)");
  const std::string readable[] = {"qwen2.5-coder-1.5b-instruct",
                                  "qwen3-0.6b",
                                  "llama-3.1-8b-instruct",
                                  "mistral-large-2407",
                                  "deepseek-v3.1",
                                  "gpt-oss-120b",
                                  "kimi-k2",
                                  "qwq-32b-gguf"};
  for (const std::string& name : readable) {
    INFO(name);
    const ChatTemplate chat = ChatTemplate::jinja(JinjaTemplate(read_file(*folder + "/" + name + ".jinja"), name),
                                                  {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    RenderOptions options;
    options.tools = {R"({"type": "function", "function": {"name": "f", "description": "d", "parameters": )"
                     R"({"type": "object", "properties": {"x": {"type": "integer", "description": "n"}}}}})"};
    const ToolCallFormat format = ToolCallFormat::of(chat, options);
    INFO(format.opening() << " / " << format.middle());
    const auto message = chat_message_from_json(Json::parse(
        R"({"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": )"
        R"({"name": "functions_f", "arguments": {"x": 12, "text": "{\"a\"}"}}}]})",
        "message"));
    const std::vector<ChatMessage> messages{{"user", "Go."}, message};
    const std::string whole = chat.render(messages, options);
    options.add_generation_prompt = true;
    const std::string prompt = chat.render(std::span(messages).first(1), options);
    const auto same = std::mismatch(prompt.begin(), prompt.end(), whole.begin(), whole.end());
    const auto calls = format.read(std::string(same.second, whole.end()));
    REQUIRE(calls.size() == 1);
    CHECK(calls[0].problem == "");
    CHECK(calls[0].call.name == "functions_f");
    CHECK(calls[0].call.arguments == "{\"x\": 12, \"text\": \"{\\\"a\\\"}\"}");
  }
}
