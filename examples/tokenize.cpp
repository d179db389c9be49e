// SPDX-License-Identifier: Apache-2.0
// tokenize: ids of texts and conversations, and texts of ids, as JSON lines from stdin to stdout.
#include <stdio.h>
#include <sys/types.h>

#include <cstdint>
#include <cstdlib>

#include "kdlib/data/text_lines.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/text/chat_template.hpp"
#include "kdlib/text/harmony.hpp"
#include "kdlib/tools/options.hpp"
#include "kdlib/tools/process_start.hpp"
#include "kdlib/tools/report.hpp"

namespace kd = kdlib;

namespace {

struct Settings {
  std::string tokenizer, chat_template;
  bool decode = false, no_special = false, plain = false, check = false;
  int threads = 0;
  std::uint64_t seed = 0;
};

kd::SpecialTokens special_tokens(const Settings& s) {
  return s.plain ? kd::SpecialTokens::plain : s.no_special ? kd::SpecialTokens::special_text : kd::SpecialTokens::parse;
}

kd::PastAnalysis past_analysis(const kd::Json& line) {
  const std::string name =
      line.string_or("drop_past_analysis", line.bool_or("auto_drop_analysis", true) ? "reference" : "off");
  if (name == "off") return kd::PastAnalysis::off;
  if (name == "reference") return kd::PastAnalysis::reference;
  if (name == "all_finished") return kd::PastAnalysis::all_finished;
  line.at("drop_past_analysis").refuse("must be off, reference or all_finished");
}

std::vector<std::int32_t> chat_ids(const kd::Json& line, const kd::Tokenizer& tokenizer, const Settings& s) {
  static const auto chat = kd::chat_template_from(s.chat_template, tokenizer);  // one for all lines
  const bool harmony = chat.flavour() == kd::ChatTemplate::Flavour::harmony;
  const std::string render = line.string_or("render", "conversation");
  if (render != "conversation" && render != "completion" && render != "training")
    line.at("render").refuse("must be conversation, completion or training");
  kd::RenderOptions options;
  options.add_generation_prompt = line.bool_or("add_generation_prompt", render == "completion");
  options.add_default_system = line.bool_or("add_default_system", !harmony);
  options.enable_thinking = line.bool_or("enable_thinking", true);
  options.training = render == "training";
  options.past_analysis = past_analysis(line);
  if (const auto tools = line.find_set("tools"))
    for (const kd::Json& tool : *tools) options.tools.push_back(kd::python_json(tool));
  options.documents = line.find_set("documents").value_or(kd::Json());
  options.variables = line.find_set("chat_template_kwargs").value_or(kd::Json());
  options.continue_final_message = line.bool_or("continue_final_message", false);
  const std::vector<kd::ChatMessage> messages = kd::chat_messages_from_json(line.at("messages"));
  if (const auto lost = chat.unwritten(messages, options))  // the ids are those of the template all the same
    kd::show_notes(
        {kd::concat("messages[", *lost, "]: the template writes nothing of a message of role ", messages[*lost].role)});
  // Harmony's contents are text, whatever they hold.
  return chat.ids(tokenizer, messages, options, harmony ? kd::SpecialTokens::plain : special_tokens(s));
}

std::vector<std::int32_t> ids_of(const kd::Json& line) {
  std::vector<std::int32_t> ids;
  for (const kd::Json& id : line) {
    if (id.as_int() < 0 || id.as_int() > INT32_MAX) id.refuse("is no token id");
    ids.push_back(static_cast<std::int32_t>(id.as_int()));
  }
  return ids;
}

std::string hex_of(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes)
    for (const int shift : {4, 0}) hex += "0123456789abcdef"[static_cast<unsigned char>(c) >> shift & 15];
  return hex;
}

std::string bytes_of(const kd::Json& hex) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string bytes;
  for (std::size_t i = 0; i < hex.as_string().size(); i += 2) {
    const std::size_t high = digits.find(hex.as_string()[i]),
                      low = i + 1 < hex.as_string().size() ? digits.find(hex.as_string()[i + 1]) : digits.npos;
    if (high == digits.npos || low == digits.npos) hex.refuse("must be pairs of the digits 0-9 and a-f");
    bytes += static_cast<char>(static_cast<unsigned char>(high * 16 + low));
  }
  return bytes;
}

/// What --check says about a stream of Harmony messages.
std::string checked(const kd::Json& line, const kd::Tokenizer& tokenizer) {
  const auto ids = line.is_array() ? ids_of(line) : tokenizer.encode(line.as_string());
  const auto report = kd::check_harmony(tokenizer, ids);
  kd::JsonWriter out;
  out.begin_object().member("ok", report.ok).member("messages", static_cast<std::int64_t>(report.messages.size()));
  if (!report.ok) {
    const kd::HarmonyProblem& first = report.problems.front();
    out.member("error", kd::harmony_code_name(first.code))
        .member("position", static_cast<std::int64_t>(first.position));
    out.member("expected", first.expected).member("found", first.found);
  }
  return out.end_object().text();
}

std::string answer(const kd::Json& line, const kd::Tokenizer& tokenizer, const Settings& s) {
  kd::JsonWriter out;
  if (s.check) return checked(line, tokenizer);
  out.begin_object();
  if (s.decode) {
    if (!line.is_array()) line.refuse("must be an array of ids with --decode");
    const std::vector<std::int32_t> ids = ids_of(line);
    for (const std::int32_t id : ids)
      if (!tokenizer.has_token(id)) line.refuse(kd::concat("holds the id ", id, ", which no token has"));
    const std::string bytes = tokenizer.decode_bytes(ids, s.no_special);
    return out.member("text", kd::replace_invalid_utf8(bytes)).member("bytes", hex_of(bytes)).end_object().text();
  }
  if (line.contains("bytes"))
    return out.member("ids", tokenizer.encode_bytes(bytes_of(line.at("bytes")))).end_object().text();
  if (line.is_object()) return out.member("ids", chat_ids(line, tokenizer, s)).end_object().text();
  return out.member("ids", tokenizer.encode(line.as_string(), special_tokens(s))).end_object().text();
}

void run(const Settings& s) {
  const auto tokenizer = kd::Tokenizer::from_pretrained(s.tokenizer);
  if (!s.chat_template.empty()) kd::chat_template_from(s.chat_template, tokenizer);  // refused before any line is read
  if (s.check) kd::HarmonyTokens::of(tokenizer);
  char* buffer = nullptr;
  std::size_t capacity = 0;
  bool turns = false;
  for (long number = 1;; ++number) {
    const ssize_t size = ::getline(&buffer, &capacity, stdin);
    if (size < 0) break;
    std::string text(buffer, static_cast<std::size_t>(size));
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) continue;
    const kd::Json line = kd::Json::parse(std::move(text), kd::concat("stdin:", number));
    turns = turns || (line.is_object() && line.contains("messages"));
    const std::string out = answer(line, tokenizer, s) + "\n";
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fflush(stdout);  // a program at the other end of two pipes may wait for each answer
  }
  std::free(buffer);
  kd::check_template_is_read("tokenize", s.chat_template, turns, "stdin");
  kd::require<kd::IoError>(std::ferror(stdin) == 0, "[tokenize] stdin cannot be read");
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options{"tokenize",
                      "Turns lines of JSON on stdin into lines of JSON on stdout.\n"
                      "A line is a string, {\"messages\": [...]} or {\"bytes\": hex}; the answer is {\"ids\": [...]}.\n"
                      "With --decode a line is an array of ids; the answer is {\"text\": ..., \"bytes\": hex}.\n"
                      "With --check a line is a Harmony text or an array of its ids; the answer is {\"ok\": ..., "
                      "\"messages\": count} and, for\n"
                      "the first problem, error, position, expected and found."};
  options
      .add("tokenizer", s.tokenizer, "DIR|FILE",
           "a Hugging Face folder, a tokenizer.json, a tokenizer.model or a GGUF file")
      .required();
  options.add("decode", s.decode, "from ids to text");
  options.add("no-special", s.no_special,
              "read special tokens in texts and contents as text; with --decode leave them out");
  options.add("plain", s.plain, "read all added tokens in texts and contents as text, also <think> and the like");
  options.add("check", s.check, "say whether Harmony texts (gpt-oss) are in order");
  options.add(
      "template", s.chat_template, "NAME|FILE",
      "how conversations are written: a built-in name (chatml, smollm2, qwen2.5, qwen3, harmony), a name in the "
      "tokenizer's files or a file with a Jinja template; default: what the tokenizer's files say");
  options.common(s.threads, s.seed);
  options.parse(argc, argv);
  options.check_needs({{{"decode", "no-special", "plain", "template"}, !s.check, "--check reads Harmony texts alone"},
                       {{"plain", "template"}, !s.decode, "--decode goes from ids to text"},
                       {{"no-special"}, !s.plain, "--plain reads special tokens as text, too"}});
  run(s);
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
