// SPDX-License-Identifier: Apache-2.0
// Harmony: conversations as openai-harmony renders them, the checker's codes and places, masks.
#include "kdlib/text/harmony.hpp"

#include "kdlib/text/chat_template.hpp"
#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Ids = std::vector<std::int32_t>;

namespace {

const Tokenizer& gpt_oss() {
  static const Tokenizer tokenizer = Tokenizer::from_pretrained(reference_file("text/gpt-oss.tokenizer.json"));
  return tokenizer;
}

RenderOptions options_of(const Json& row) {
  RenderOptions options;
  options.add_default_system = false;
  options.add_generation_prompt = row.at("render").as_string() == "completion";
  options.training = row.at("render").as_string() == "training";
  options.past_analysis = row.at("auto_drop_analysis").as_bool() ? PastAnalysis::reference : PastAnalysis::off;
  return options;
}

void check_rows(const std::vector<Json>& rows, const Tokenizer& tokenizer) {
  for (const Json& row : rows) {
    INFO(row.at("name").as_string() << ", " << row.at("render").as_string());
    const std::vector<ChatMessage> messages = chat_messages_from_json(row.at("messages"));
    const RenderOptions options = options_of(row);
    CHECK(ChatTemplate::harmony().render(messages, options) == row.at("text").as_string());
    const ChatIds chat = ChatTemplate::harmony().render_ids(tokenizer, messages, options);
    CHECK(chat.ids == id_list(row.at("ids")));
    CHECK(chat.loss_mask.size() == chat.ids.size());
    if (options.add_generation_prompt) continue;
    const HarmonyReport report = check_harmony(tokenizer, std::span<const std::int32_t>(chat.ids));
    CHECK(report.ok);
    // What was read is written again.
    std::vector<ChatMessage> read;
    for (const HarmonyMessage& m : report.messages) read.push_back(chat_message_of(m));
    RenderOptions again = options;
    again.past_analysis = PastAnalysis::off;
    CHECK(ChatTemplate::harmony().render_ids(tokenizer, read, again).ids == chat.ids);
  }
}

HarmonyReport check(const std::string& text, HarmonyCheckOptions options = {}) {
  return check_harmony(gpt_oss(), text, options);
}

/// The first problem: "E_TERM 6 <|return|>".
std::string first(const std::string& text, HarmonyCheckOptions options = {}) {
  const HarmonyReport report = check(text, options);
  if (report.ok) return "ok";
  const HarmonyProblem& p = report.problems.front();
  CHECK(report.first_error() == p.code);
  CHECK(report.error_position() == p.position);
  CHECK_FALSE(p.expected.empty());
  return std::string(harmony_code_name(p.code)) + " " + std::to_string(p.position) + " " + p.found;
}

const std::string user = "<|start|>user<|message|>a<|end|>",
                  think = "<|start|>assistant<|channel|>analysis<|message|>a<|end|>",
                  answer = "<|start|>assistant<|channel|>final<|message|>a<|return|>";

}  // namespace

TEST_CASE("conversations render as openai-harmony renders them", "[text][harmony]") {
  const std::vector<Json> rows = read_json_lines(reference_file("text/gpt-oss.chat.jsonl"));
  CHECK(rows.size() == 105);
  check_rows(rows, gpt_oss());
}

TEST_CASE("all Harmony conversations of the shared reference", "[text][harmony][shared]") {
  const auto lines = shared_maybe_packed("reference/tokenizers/chat.jsonl"),
             file = shared_maybe_packed("data/tokenizers/gpt-oss/tokenizer.json");
  if (!lines || !file || !have_xz())
    KDLIB_SKIP("Harmony of reference/tokenizers: the shared folder (KDLIB_SHARED_DIR) or xz is not here");
  std::vector<Json> rows;
  for (const Json& row : read_json_lines(*lines))
    if (row.at("template").as_string() == "harmony") rows.push_back(row);
  CHECK(rows.size() == 275);
  check_rows(rows, Tokenizer::from_json_text(read_maybe_packed(*file), *file));
}

TEST_CASE("Harmony: published ids of a tool call and its answer", "[text][harmony]") {
  // Ids of the published tokenizer for the texts of specs/harmony.md, section 4(c), as the model writes the call.
  const Ids call{200006, 173781, 200005, 12606, 815,    316,   28,     44580,  775,   170154, 220,    200003, 4108,
                 200008, 10848,  17500,  7534,  72782,  18583, 200012, 200006, 44580, 775,    170154, 316,    28,
                 173781, 200005, 12606,  815,   200008, 10848, 83,     1243,   455,   92,     200007};
  const std::vector<HarmonyMessage> messages = parse_harmony(gpt_oss(), call, "x");
  REQUIRE(messages.size() == 2);
  CHECK(messages[0].role == "assistant");
  CHECK(messages[0].channel == "commentary");
  CHECK(messages[0].recipient == "functions.get_weather");
  CHECK(messages[0].content_type == "<|constrain|>json");
  CHECK(messages[0].content == "{\"city\":\"Paris\"}");
  CHECK(messages[0].terminator == HarmonyTerminator::call);
  CHECK(messages[1].role == "tool");
  CHECK(messages[1].name == "functions.get_weather");
  CHECK(messages[1].recipient == "assistant");
  CHECK(messages[1].content == "{\"t\":20}");
}

TEST_CASE("Harmony: thoughts of finished turns can be left out", "[text][harmony]") {
  const auto said = [](const char* channel, const char* text) {
    ChatMessage m{"assistant", text};
    m.channel = channel;
    return m;
  };
  const std::vector<ChatMessage> talk = {{"user", "1"}, said("analysis", "2"), said("final", "3"),
                                         {"user", "4"}, said("analysis", "5"), said("final", "6")};
  RenderOptions options;
  options.add_default_system = false;
  const auto thoughts = [&](PastAnalysis past, bool training) {
    options.past_analysis = past;
    options.training = training;
    return check(ChatTemplate::harmony().render(talk, options)).analysis_text;
  };
  CHECK(thoughts(PastAnalysis::off, false) == "2\n5");
  CHECK(thoughts(PastAnalysis::reference, false) == "5");
  CHECK(thoughts(PastAnalysis::reference, true) == "5");
  CHECK(thoughts(PastAnalysis::all_finished, false).empty());
  CHECK(thoughts(PastAnalysis::all_finished, true) == "5");
}

TEST_CASE("Harmony: messages in the form of other templates", "[text][harmony]") {
  ChatMessage thought{"assistant", "b"}, call{"assistant", "I look."};
  thought.reasoning = "hm";
  call.tool_calls = {{"now", "{\"zone\": \"UTC\"}"}};
  RenderOptions options;
  options.tools = {R"({"type": "function", "function": {"name": "now", "description": "The time.",)"
                   R"( "parameters": {"type": "object", "properties": {}}}})"};
  options.training = true;
  const std::string text =
      ChatTemplate::harmony().render(std::vector<ChatMessage>{{"user", "?"}, call, {"tool", "12"}, thought}, options);
  CHECK_THAT(
      text,
      contains(
          "Reasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every "
          "message.\n"
          "Calls to these tools must go to the commentary channel: 'functions'.<|end|><|start|>developer<|message|># "
          "Tools\n\n## functions\n\n"
          "namespace functions {\n\n// The time.\ntype now = (_: {\n}) => any;\n\n} // namespace functions<|end|>"));
  CHECK_THAT(text, contains("<|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
                            "<|start|>assistant to=functions.now<|channel|>commentary "
                            "<|constrain|>json<|message|>{\"zone\": \"UTC\"}<|call|>"
                            "<|start|>functions.now to=assistant<|channel|>commentary<|message|>12<|end|>"
                            "<|start|>assistant<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>"
                            "final<|message|>b<|return|>"));
  CHECK(check(text).ok);
  CHECK_THROWS_WITH(ChatTemplate::harmony().render(std::vector<ChatMessage>{{"robot", "a"}}), contains("robot"));
  CHECK_THROWS_WITH(ChatTemplate::harmony().render(std::vector<ChatMessage>{{"tool", "a"}}), contains("no name"));
  CHECK_THROWS_WITH(ChatTemplate::harmony().render(std::vector<ChatMessage>{{"developer", "a"}}, options),
                    contains("instructions"));
  options.tools.clear();
  options.system.effort = "extreme";
  CHECK_THROWS_WITH(ChatTemplate::harmony().render(std::vector<ChatMessage>{{"user", "a"}}, options),
                    contains("extreme"));
  for (const char* bad : {R"([{"role":"system","effort":"huge"}])", R"([{"role":"developer","functions":[]}])",
                          R"([{"role":"developer","instructions":"a","content":"b"}])",
                          R"([{"role":"system","effort":"low","content":"b"}])",
                          R"([{"role":"developer","functions":[{"name":"f","parameters":7}]}])"}) {
    INFO(bad);
    CHECK_THROWS_AS(chat_messages_from_json(Json::parse(bad, "line 1")), FormatError);
  }
  const std::vector<ChatMessage> effort =
      chat_messages_from_json(Json::parse(R"([{"role":"system","effort":"low"},{"role":"user","content":"a"}])", "x"));
  CHECK_THROWS_WITH(ChatTemplate::chatml().render(effort), contains("Harmony"));
}

TEST_CASE("Harmony: schemas as TypeScript", "[text][harmony]") {
  // Expected texts: openai-harmony 0.0.8.
  const auto written = [](const char* schema) {
    HarmonyDeveloper developer;
    developer.functions = {{"f", "", Json::parse(schema, "x")}};
    ChatMessage message{"developer", ""};
    message.developer = developer;
    RenderOptions options;
    options.add_default_system = false;
    const std::string text = ChatTemplate::harmony().render(std::vector<ChatMessage>{message}, options);
    const std::size_t begin = text.find("(_: ") + 4;
    return text.substr(begin, text.find(") => any;") - begin);
  };
  CHECK(written(R"({"type":"object","properties":{"a":{"type":"object","description":"od",)"
                R"("properties":{"x":{"type":"object","properties":{"d":{"type":"number"}}}},"required":["x"]}}})") ==
        "{\n// od\na?:     // od\n{\n    x: {\n        d?: number,\n        },\n    },\n}");
  CHECK(written(
            R"({"type":"object","properties":{"a":{"oneOf":[{"type":"string","description":"s"},{"type":"number",
         "description":"n","default":2},
        {"type":"string","enum":["u"],"default":"u","description":"ds"}],"default":"dd"}}})") ==
        "{\n// default: \"dd\"\na?:\n | string // s\n | number // n default: 2\n | \"u\" // ds default: u\n,\n}");
  CHECK(written(
            R"({"type":"object","properties":{"a":{"title":"Ti","type":["integer","null"],"description":"d",
         "examples":["x",3],"default":1e-7},
        "b":{"type":"string","nullable":true,"default":[1,{"k":1e16}]}}})") ==
        "{\n// Ti\n//\n// d\n// Examples:\n// - \"x\"\na?: number | null, // default: 1e-7\nb?: string | null, // "
        "default: [1,{\"k\":1e16}]\n}");
  CHECK(written(R"({"oneOf":[{"type":"array"},{"type":"array","items":{"anyOf":[]}}]})") ==
        "\n | Array<any>\n | any[]");
}

TEST_CASE("Harmony: built-in tools and forms of answers", "[text][harmony]") {
  // Tools: what openai-harmony 0.0.8 writes for SystemContent.with_tools. Forms: the published description of the
  // format; the library has none.
  const char* lines = R"([{"role":"system","tools":[
      {"name":"notes","description":"Keeps notes.\nTwo lines.","functions":[
        {"name":"add","description":"Adds a note.","parameters":{"type":"object",
         "properties":{"text":{"type":"string","description":"what"}},"required":["text"]}},
        {"name":"list","description":"Lists.\nAll of them."}]},
      {"name":"calc","description":"Runs code, no functions."},
      {"name":"bare","functions":[{"name":"f","description":"F."}]}]},
    {"role":"developer","instructions":"Do.","functions":[{"name":"g","description":"G."}],
     "response_formats":[{"name":"list","description":"What to buy.","schema":{"type":"object",
         "properties":{"items":{"type":"array"}}}},{"name":"plain","schema":{"type":"string"}}]},
    {"role":"user","content":"a"}])";
  RenderOptions options;
  options.add_default_system = false;
  const std::vector<ChatMessage> messages = chat_messages_from_json(Json::parse(lines, "x"));
  const std::string text = ChatTemplate::harmony().render(messages, options);
  CHECK_THAT(text,
             contains("Reasoning: medium\n\n# Tools\n\n## bare\n\nnamespace bare {\n\n// F.\ntype f = () => any;\n\n} "
                      "// namespace bare\n\n"
                      "## calc\n\nRuns code, no functions.\n\n## notes\n\n// Keeps notes.\n// Two lines.\nnamespace "
                      "notes {\n\n// Adds a note.\n"
                      "type add = (_: {\n// what\ntext: string,\n}) => any;\n\n// Lists.\n// All of them.\ntype list = "
                      "() => any;\n\n} // namespace notes\n\n"
                      "# Valid channels: analysis, commentary, final. Channel must be included for every message.\n"
                      "Calls to these tools must go to the commentary channel: 'functions'.<|end|>"));
  CHECK_THAT(text, contains("<|start|>developer<|message|># Instructions\n\nDo.\n\n# Tools\n\n## "
                            "functions\n\nnamespace functions {\n\n// G.\ntype g = () => any;\n\n"
                            "} // namespace functions\n\n# Response Formats\n\n## list\n\n// What to buy.\n"
                            "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\"}}}\n\n## "
                            "plain\n\n{\"type\":\"string\"}<|end|>"));
  CHECK(check(text).ok);
  ChatMessage format{"developer", ""};
  format.developer = HarmonyDeveloper{};
  format.developer->formats = {{"x", "", Json::parse("{}", "x")}};
  CHECK(ChatTemplate::harmony().render(std::vector<ChatMessage>{format}, options) ==
        "<|start|>developer<|message|># Response Formats\n\n## x\n\n{}<|end|>");
  for (const char* bad :
       {R"([{"role":"system","tools":[]}])", R"([{"role":"system","tools":[{"name":"a"}]}])",
        R"([{"role":"system","tools":[{"description":"a"}]}])", R"([{"role":"developer","response_formats":[]}])",
        R"([{"role":"developer","response_formats":[{"name":"a","schema":1}]}])",
        R"([{"role":"developer","response_formats":[{"name":"a","schema":{}}],"content":"b"}])"}) {
    INFO(bad);
    CHECK_THROWS_AS(chat_messages_from_json(Json::parse(bad, "line 1")), FormatError);
  }
}

TEST_CASE("Harmony checker: each broken rule has its code and place", "[text][harmony]") {
  // Positions are counted by hand: one token each for the framing, the roles, analysis, final and the letters here;
  // commentary has two.
  CHECK(first(user + think + answer) == "ok");
  CHECK(first("") == "ok");
  CHECK(first("a" + user) == "E_START 0 \"a\" (id 64)");
  CHECK(first(user + "<|end|>" + answer) == "E_START 5 <|end|>");
  CHECK(first("<|start|>user<|end|>" + user) == "E_HEADER 2 <|end|>");
  CHECK(first("<|start|>user" + user) == "E_HEADER 2 <|start|>");
  CHECK(first("<|start|>user") == "E_HEADER 2 the end of the ids");
  CHECK(first("<|start|>assistant<|channel|>final<|channel|>final<|message|>a<|end|>") == "E_HEADER 4 <|channel|>");
  CHECK(first("<|start|>assistant<|channel|>final<|constrain|>a<|constrain|>a<|message|>a<|end|>") ==
        "E_HEADER 6 <|constrain|>");
  CHECK(first("<|start|>user<|endofprompt|><|message|>a<|end|>") == "E_HEADER 2 <|endofprompt|>");
  CHECK(first("<|start|><|message|>a<|end|>") == "E_ROLE 1 <|message|>");
  CHECK(first("<|start|>final<|message|>a<|end|>") == "E_ROLE 1 \"final\" (id 17196)");
  CHECK(first("<|start|>final to=assistant<|message|>a<|end|>") == "ok");
  CHECK(first("<|start|>user:final<|message|>a<|end|>") == "ok");
  CHECK(first("<|start|>assistant<|message|>hi<|end|>") == "E_CHANNEL 2 <|message|>");
  CHECK(first("<|start|>assistant<|channel|><|message|>x<|end|>") == "E_CHANNEL 3 <|message|>");
  CHECK(first("<|start|>assistant<|channel|>user<|message|>x<|end|>") == "E_CHANNEL 3 \"user\" (id 1428)");
  CHECK(first("<|start|>user<|channel|>final<|message|>x<|end|>") == "E_CHANNEL 2 <|channel|>");
  CHECK(first("<|start|>assistant to=a<|channel|>analysis to=a<|message|>x<|call|>").substr(0, 11) == "E_RECIPIENT");
  CHECK(first("<|start|>assistant to=a<|channel|>final<|message|>x<|end|>").substr(0, 11) == "E_RECIPIENT");
  CHECK(first("<|start|>final to=user<|message|>x<|end|>").substr(0, 11) == "E_RECIPIENT");
  CHECK(first("<|start|>user to=a<|message|>x<|end|>").substr(0, 11) == "E_RECIPIENT");
  CHECK(first("<|start|>user<|message|>x<|return|>") == "E_TERM 4 <|return|>");
  CHECK(first("<|start|>user<|message|>x<|call|>") == "E_TERM 4 <|call|>");
  CHECK(first("<|start|>assistant<|channel|>analysis<|message|>a<|return|>") == "E_TERM 6 <|return|>");
  CHECK(first("<|start|>assistant<|channel|>analysis<|message|>a<|call|>") == "E_TERM 6 <|call|>");
  CHECK(first("<|start|>assistant<|channel|>final<|message|>a<|call|>") == "E_TERM 6 <|call|>");
  CHECK(first("<|start|>assistant to=a<|channel|>analysis<|message|>x<|end|>").substr(0, 6) == "E_TERM");
  CHECK(first("<|start|>assistant to=a<|channel|>analysis<|message|>x<|call|>") == "ok");
  CHECK(first(answer + user) == "E_TERM 6 <|return|>");
  CHECK(first("<|start|>user<|message|>a") == "E_TRUNC 4 the end of the ids");
  CHECK(first(user + "<|start|>system<|message|>a<|end|>") == "E_ORDER 5 <|start|>");
  CHECK(first("<|start|>system<|message|>a<|end|><|start|>system<|message|>a<|end|>") == "E_ORDER 5 <|start|>");
  CHECK(first(user + "<|start|>developer<|message|>a<|end|>") == "E_ORDER 5 <|start|>");
  CHECK(first(user + "<|endoftext|>" + answer) == "E_EOD 5 <|endoftext|>");
  CHECK(first("<|startoftext|>" + user) == "E_EOD 0 <|startoftext|>");
  CHECK(first(user + "<|endoftext|><|endoftext|>") == "ok");
  CHECK(first("<|start|>user<|message|>a<|channel|>a<|end|>") == "E_CONTENT 4 <|channel|>");
  CHECK(first("<|start|>user<|message|>a" + user) == "E_CONTENT 4 <|start|>");
  const HarmonyReport many = check("a<|start|>assistant<|message|>a<|call|>");
  REQUIRE(many.problems.size() == 3);  // E_START, E_CHANNEL, E_TERM
  CHECK(many.problems[2].byte == 1 + 9 + 9 + 11 + 1);
  CHECK(many.problems[2].text() ==
        "E_TERM at token 5 (byte 31): expected <|end|> or <|return|> behind a message without a recipient or on "
        "channel final; found <|call|>");
}

TEST_CASE("Harmony checker: completions, lenient reading and reasoning rows", "[text][harmony]") {
  HarmonyCheckOptions completion, lenient, row, allowed;
  completion.completion = true;
  lenient.lenient = true;
  row.reasoning_row = true;
  allowed.special_in_content = true;
  const std::string reply = "<|channel|>analysis<|message|>User<|end|>" + answer;
  CHECK(first(reply, completion) == "ok");
  CHECK(first(reply) == "E_START 0 <|channel|>");
  CHECK(first("", completion) == "E_HEADER 0 the end of the ids");
  const HarmonyReport report = check(reply, completion);
  CHECK(report.messages.size() == 2);
  CHECK(report.analysis_text == "User");
  CHECK(report.final_text == "a");
  CHECK(report.has_analysis);
  CHECK(report.has_final);
  CHECK(report.stop == HarmonyReport::Stop::ret);
  CHECK(check(" to=python<|channel|>analysis<|message|>1<|call|>", completion).stop == HarmonyReport::Stop::call);

  completion.lenient = true;
  const HarmonyReport cut = check("<|channel|>final<|message|>ab", completion);
  CHECK(cut.ok);
  CHECK(cut.stop == HarmonyReport::Stop::length);
  CHECK(cut.final_text == "ab");
  CHECK(first("<|start|>assistant<|channel|>fin", lenient) == "ok");
  CHECK(first("<|start|>user<|message|>hi", lenient) == "ok");
  const HarmonyReport surplus = check("<|start|>assistant<|channel|>final x<|end|>", lenient);
  CHECK(surplus.ok);
  CHECK(surplus.final_text == "x");

  CHECK(first(user + think + answer, row) == "ok");
  CHECK(first(user + answer, row) == "E_ORDER 5 <|start|>");
  CHECK(first(user + think, row) == "E_ORDER 12 the end of the ids");
  CHECK(first(user + think + "<|start|>assistant<|channel|>final<|message|>  <|return|>", row).substr(0, 10) ==
        "E_ORDER 17");
  CHECK(first(user + think + answer + user, row) == "E_TERM 18 <|return|>");

  const HarmonyReport text = check("<|start|>user<|message|>a<|start|>b<|end|>", allowed);
  CHECK(text.ok);
  CHECK(text.messages.at(0).content == "a<|start|>b");
}

TEST_CASE("gpt-oss: answers end with return or call, not with end", "[text][harmony]") {
  CHECK(gpt_oss().stop_ids() == Ids{200002, 200012});
}

TEST_CASE("a Harmony text that breaks off is named with place, expected and found", "[text][harmony]") {
  const Ids ids = gpt_oss().encode("<|start|>user<|message|>a");
  CHECK_THROWS_AS(parse_harmony(gpt_oss(), ids, "rows.jsonl:3"), FormatError);
  CHECK_THROWS_WITH(parse_harmony(gpt_oss(), ids, "rows.jsonl:3"),
                    contains("[harmony] rows.jsonl:3: E_TRUNC at token 4 (byte 25): expected <|end|>") &&
                        contains("found the end of the ids"));
  const Tokenizer qwen = Tokenizer::from_pretrained(reference_file("text/qwen3.tokenizer.json"));
  CHECK_THROWS_WITH(check_harmony(qwen, "a"), contains("<|start|>") && contains("gpt-oss"));
}

TEST_CASE("Harmony masks count the assistant's messages; spans are their contents", "[text][harmony]") {
  // The training row of specs/harmony.md, section 4(b): 100 tokens of the published tokenizer.
  std::optional<Json> row;
  for (const Json& r : read_json_lines(reference_file("text/gpt-oss.chat.jsonl")))
    if (r.at("name").as_string() == "instructions" && r.at("render").as_string() == "training" &&
        !r.at("auto_drop_analysis").as_bool())
      row = r;
  REQUIRE(row);
  const Ids ids = id_list(row->at("ids"));
  REQUIRE(ids.size() == 100);
  const HarmonyMasks masks = harmony_masks(gpt_oss(), ids);
  std::string loss, span;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    loss += static_cast<char>('0' + masks.loss[i]);
    span += static_cast<char>('0' + masks.span[i]);
  }
  CHECK(loss == std::string(100 - 17, '0') + std::string(17, '1'));
  CHECK(span == std::string(100 - 17, '0') +
                    "00000"
                    "1111"
                    "0"
                    "00000"
                    "2"
                    "0");
  ChatMask mask;
  mask.harmony_first_header = false;
  CHECK(harmony_masks(gpt_oss(), ids, mask).loss[83] == 0);
  CHECK(harmony_masks(gpt_oss(), ids, mask).loss[84] == 0);
  CHECK(harmony_masks(gpt_oss(), ids, mask).loss[85] == 1);
  CHECK(harmony_masks(gpt_oss(), ids, mask).loss[94] ==
        1);  // final's header stands behind analysis, not behind the prompt
  mask.harmony_header = mask.end_of_turn = false;
  const std::vector<std::uint8_t> contents = harmony_masks(gpt_oss(), ids, mask).loss;
  CHECK(std::count(contents.begin(), contents.end(), 1) == 5);
  RenderOptions options = options_of(*row);
  CHECK(
      ChatTemplate::harmony().render_ids(gpt_oss(), chat_messages_from_json(row->at("messages")), options).loss_mask ==
      masks.loss);
}
