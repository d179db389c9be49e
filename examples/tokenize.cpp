// SPDX-License-Identifier: Apache-2.0
// tokenize: ids of texts and conversations, and texts of ids, as JSON lines from stdin to stdout.
#include <stdio.h>
#include <sys/types.h>

#include <cstdint>
#include <cstdlib>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/text/chat_template.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;

namespace {

struct Settings {
  std::string tokenizer, chat_template;
  bool decode = false, no_special = false, plain = false;
  int threads = 0;
  std::uint64_t seed = 0;
};

kd::SpecialTokens special_tokens(const Settings& s) {
  return s.plain ? kd::SpecialTokens::plain : s.no_special ? kd::SpecialTokens::special_text : kd::SpecialTokens::parse;
}

std::vector<std::int32_t> chat_ids(const kd::Json& line, const kd::Tokenizer& tokenizer, const Settings& s) {
  const auto chat = kd::ChatTemplate::from_name(s.chat_template, tokenizer);
  kd::RenderOptions options;
  options.add_generation_prompt = line.bool_or("add_generation_prompt", false);
  options.enable_thinking = line.bool_or("enable_thinking", true);
  if (const auto tools = line.find_set("tools"))
    for (const kd::Json& tool : *tools) options.tools.push_back(kd::python_json(tool));
  return chat.render_ids(tokenizer, kd::chat_messages_from_json(line.at("messages")), options, {}, special_tokens(s)).ids;
}

std::string answer(const kd::Json& line, const kd::Tokenizer& tokenizer, const Settings& s) {
  kd::JsonWriter out;
  out.begin_object();
  if (s.decode) {
    if (!line.is_array()) line.refuse("must be an array of ids with --decode");
    std::vector<std::int32_t> ids;
    for (const kd::Json& id : line) {
      if (id.as_int() < 0 || id.as_int() > INT32_MAX) id.refuse("is no token id");
      ids.push_back(static_cast<std::int32_t>(id.as_int()));
    }
    const std::string bytes = tokenizer.decode_bytes(ids, s.no_special);
    std::string hex;
    for (const char c : bytes)
      for (const int shift : {4, 0}) hex += "0123456789abcdef"[static_cast<unsigned char>(c) >> shift & 15];
    return out.member("text", kd::replace_invalid_utf8(bytes)).member("bytes", hex).end_object().text();
  }
  if (line.is_object()) return out.member("ids", chat_ids(line, tokenizer, s)).end_object().text();
  return out.member("ids", tokenizer.encode(line.as_string(), special_tokens(s))).end_object().text();
}

void run(const Settings& s) {
  const auto tokenizer = kd::Tokenizer::from_pretrained(s.tokenizer);
  if (s.chat_template == "harmony") kd::ChatTemplate::from_name(s.chat_template, tokenizer);  // refused before any line is read
  char* buffer = nullptr;
  std::size_t capacity = 0;
  for (long number = 1;; ++number) {
    const ssize_t size = ::getline(&buffer, &capacity, stdin);
    if (size < 0) break;
    std::string text(buffer, static_cast<std::size_t>(size));
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) continue;
    const std::string out = answer(kd::Json::parse(std::move(text), kd::concat("stdin:", number)), tokenizer, s) + "\n";
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fflush(stdout);  // a program at the other end of two pipes may wait for each answer
  }
  std::free(buffer);
  kd::require<kd::IoError>(std::ferror(stdin) == 0, "[tokenize] stdin cannot be read");
  kd::require<kd::IoError>(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, "[tokenize] stdout cannot be written");
}

}  // namespace

int main(int argc, char** argv) try {
  Settings s;
  kd::Options options{"tokenize", "Turns lines of JSON on stdin into lines of JSON on stdout.\n"
                                  "A line is a string or {\"messages\": [...]}; the answer is {\"ids\": [...]}.\n"
                                  "With --decode a line is an array of ids; the answer is {\"text\": ..., \"bytes\": hex}."};
  options.add("tokenizer", s.tokenizer, "DIR|FILE", "a Hugging Face folder, a tokenizer.json or a GGUF file").required();
  options.add("decode", s.decode, "from ids to text");
  options.add("no-special", s.no_special, "read special tokens in texts and contents as text; with --decode leave them out");
  options.add("plain", s.plain, "read all added tokens in texts and contents as text, also <think> and the like");
  options.add("template", s.chat_template, "NAME", "how conversations are written; default: what the tokenizer's files say").choices({"chatml", "harmony"});
  options.common(s.threads, s.seed);
  options.parse(argc, argv);
  run(s);
  return 0;
} catch (const std::exception& error) {
  return kd::report(error);
}
