// SPDX-License-Identifier: Apache-2.0
// Published chat templates against what transformers renders: the shared folder's reference/chat_templates. The
// templates belong to their models, so the project does not hold them.
#include <map>

#include "kdlib/text/chat_jinja.hpp"
#include "kdlib/text/jinja_text.hpp"
#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using detail::JinjaChat;

namespace {

/// One line of cases.jsonl.
struct Case {
  explicit Case(const Json& line) : line_(line) {
    for (const Json& m : line.at("messages")) {  // also what data files may not have, such as null contents
      ChatMessage& message = messages.emplace_back();
      message.source = m;
      message.role = m.at("role").as_string();
      if (const auto content = m.find_set("content"); content && content->is_string())
        message.content = content->as_string();
    }
    options.preprocess = false;
    options.clock = JinjaClock{2026, 1, 15, 12, 0, 0};
    std::string variables = concat("{\"tools\":", python_json(line.at("tools")));
    for (const auto& [name, value] : line.at("options").members()) {
      if (name == "continue_final_message") options.continue_final_message = value.as_bool();
      else variables += concat(",\"", name, "\":", python_json(value));
    }
    options.variables = Json::parse(variables + "}", "options");
    for (const char* name : {"bos_token", "eos_token", "pad_token", "unk_token"})
      if (const auto token = line.find(name)) tokens.emplace_back(name, std::string(token->as_string()));
  }

  const Json& line_;
  std::vector<ChatMessage> messages;
  RenderOptions options;
  std::vector<std::pair<std::string, std::string>> tokens;
};

std::int64_t points(const std::string& text, std::size_t bytes) {
  return static_cast<std::int64_t>(detail::utf8_count(std::string_view(text).substr(0, bytes)));
}

void check_spans(const Json& wanted, const JinjaOutput& out) {
  REQUIRE(wanted.size() == out.generation.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    CHECK(wanted[i][0].as_int() == points(out.text, out.generation[i].first));
    CHECK(wanted[i][1].as_int() == points(out.text, out.generation[i].second));
  }
}

/// Number of contents that were found.
std::size_t check_answers(const Json& wanted, const Case& c, const JinjaChat& chat, const std::string& text) {
  std::vector<std::optional<detail::TextSpan>> found;
  const auto all = chat.contents(c.messages, c.options, text, "assistant");
  for (std::size_t i = 0; i < c.messages.size(); ++i)
    if (c.messages[i].role == "assistant" && !detail::strip(c.messages[i].content).empty())
      found.push_back(all[i].whole());
  REQUIRE(found.size() == wanted.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE(found[i].has_value() == !wanted[i].is_null());
    if (!found[i]) continue;
    CHECK(wanted[i][0].as_int() == points(text, found[i]->begin));
    CHECK(wanted[i][1].as_int() == points(text, found[i]->end));
    ++count;
  }
  return count;
}

/// The rendering, or the error, of one line; `expected` is the line or what it says about preprocessed messages.
void check_case(const Case& c, const JinjaChat& chat, const Json& expected, bool preprocess) {
  RenderOptions options = c.options;
  options.preprocess = preprocess;
  if (const auto error = expected.find("error")) {
    const bool raised = expected.string_or("error_kind", "") == "raise_exception";
    try {
      chat.render(c.messages, options);
      FAIL_CHECK("rendered, but the error is " << error->as_string());
    } catch (const JinjaError& e) {
      CHECK((e.kind() == JinjaError::Kind::raised) == raised);
      if (raised) CHECK(e.words() == error->as_string());
    } catch (const InputError&) {
      CHECK(expected.string_or("error_kind", "") == "continue");
    }
    return;
  }
  JinjaOutput out;
  try {
    out = chat.render(c.messages, options);
  } catch (const Error& e) {
    FAIL_CHECK(e.what());
    return;
  }
  CHECK(out.text == expected.at("text").as_string());
  if (const auto spans = expected.find("spans")) check_spans(*spans, out);
}

}  // namespace

TEST_CASE("every case of the published templates renders or fails as in transformers", "[text][shared]") {
  const auto packed = shared_maybe_packed("reference/chat_templates/cases.jsonl");
  if (!packed || !have_xz())
    KDLIB_SKIP("reference/chat_templates: the shared folder (KDLIB_SHARED_DIR) or xz is not here");
  const std::string folder = packed->substr(0, packed->rfind('/') + 1);
  std::map<std::string, JinjaTemplate> templates;
  std::size_t lines = 0, contents = 0, prepared = 0;
  for (const Json& line : read_json_lines(*packed)) {
    const std::string name(line.at("template").as_string());
    INFO(name << " " << line.at("case").as_string());
    auto found = templates.find(name);
    if (found == templates.end())
      found = templates.emplace(name, JinjaTemplate(read_file(folder + name + ".jinja"), name)).first;
    const Case c(line);
    const JinjaChat chat(found->second, {}, c.tokens);
    check_case(c, chat, line, false);
    if (const auto answers = line.find("answers"))
      contents += check_answers(*answers, c, chat, std::string(line.at("text").as_string()));
    if (const auto other = line.find("preprocessed")) {
      check_case(c, chat, *other, true);
      ++prepared;
    } else if (!line.contains("error")) {
      check_case(c, chat, line, true);
    }
    ++lines;
  }
  WARN(lines << " cases, " << contents << " contents found, " << prepared << " with preparation");
  CHECK(lines > 1000);
  CHECK(contents > 1000);
  CHECK(prepared > 10);
}
