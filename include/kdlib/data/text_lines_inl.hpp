// SPDX-License-Identifier: Apache-2.0
// Bodies of text_lines.hpp.
#ifndef KDLIB_DATA_TEXT_LINES_INL_HPP
#define KDLIB_DATA_TEXT_LINES_INL_HPP

#include <algorithm>
#include <limits>
#include <utility>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/data/conversations.hpp"
#include "kdlib/data/text_lines.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/text/chat_jinja.hpp"
#include "kdlib/text/chat_template.hpp"
#include "kdlib/text/prompt_chat.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::vector<std::int32_t> ids_of(const Json& array) {
  if (!array.is_array()) array.refuse("is not an array; a list of token ids is needed");
  std::vector<std::int32_t> ids;
  ids.reserve(array.size());
  for (const Json& element : array) {
    const std::int64_t id = element.as_int();
    if (id < 0 || id > std::numeric_limits<std::int32_t>::max())
      element.refuse("is not a token id: 0 or more is needed");
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

/// Refuses keys other than those of the line's form, so that a misspelt key is not passed over. `teachers`: "teacher"
/// belongs to every form.
KDLIB_FUNC void check_keys(const Json& object, bool teachers, std::initializer_list<std::string_view> allowed) {
  for (const JsonMember& member : object.members())
    if (!(teachers && member.key == "teacher") &&
        std::find(allowed.begin(), allowed.end(), member.key) == allowed.end())
      member.value.refuse(concat("is an unknown key beside \"", *allowed.begin(), "\"; remove or rename it"));
}

}  // namespace detail

KDLIB_FUNC TextLineReader::TextLineReader(std::string path, const Tokenizer* tokenizer, TextSettings settings)
    : path_(std::move(path)), tokenizer_(tokenizer), settings_(std::move(settings)) {
  if (settings_.vocabulary == 0 && tokenizer_ != nullptr) settings_.vocabulary = tokenizer_->vocab_size();
}

KDLIB_FUNC TooLong too_long_rule(std::string_view word) {
  if (word == "refuse") return TooLong::refuse;
  if (word == "cut") return TooLong::cut;
  require<ConfigError>(word == "drop", "[text] '", word, "' is no rule for long text: refuse, cut or drop is needed");
  return TooLong::drop;
}

KDLIB_FUNC std::string TextCounts::note(const std::string& path, std::int64_t limit) const {
  if (cut == 0 && dropped == 0) return {};
  std::string done = cut > 0 ? concat(cut, " cut") : std::string();
  if (dropped > 0) done += concat(cut > 0 ? ", " : "", dropped, " left out");
  return concat(path, ": of ", lines, " lines, those longer than ", limit, " tokens were ", done, " (the longest has ",
                longest, ")");
}

KDLIB_FUNC bool fit_length(TextLine& line, std::int64_t limit, TooLong rule, TextCounts& counts) {
  const auto length = static_cast<std::int64_t>(line.ids.size());
  const bool prompt = line.kind == TextLineKind::prompt;
  ++counts.lines;
  counts.longest = std::max(counts.longest, length);
  if (limit == 0 || length < limit || (!prompt && length == limit)) return true;
  const bool cuts = rule == TooLong::cut && !prompt;
  require<InputError>(rule == TooLong::drop || cuts, "[text] ", line.source, ": the ", prompt ? "prompt" : "text",
                      " has ", length, " tokens and the context holds ", limit,
                      prompt ? ": shorten it, or raise the length, so that at least one new token fits; or let long "
                               "lines be dropped (--too-long drop)"
                             : ": shorten it, raise the length, or let long text be cut or dropped (--too-long cut or "
                               "drop)");
  if (cuts) {
    line.ids.resize(static_cast<std::size_t>(limit));
    line.mask.resize(static_cast<std::size_t>(limit));
    if (!line.spans.empty()) line.spans.resize(static_cast<std::size_t>(limit));
    if (std::find(line.mask.begin() + 1, line.mask.end(), std::uint8_t{1}) != line.mask.end()) {
      ++counts.cut;
      return true;
    }
  }
  ++counts.dropped;
  return false;
}

KDLIB_FUNC std::vector<TextLine> TextLineReader::read_all(TextCounts* counts) const {
  JsonlReader reader(path_, max_line_bytes);
  std::vector<TextLine> lines;
  TextCounts done;
  while (const auto object = reader.next()) {
    check_stop();
    TextLine next = line(*object, reader.place());
    if (fit_length(next, settings_.context_length, settings_.too_long, done)) lines.push_back(std::move(next));
  }
  require<InputError>(done.lines > 0, "[text] ", path_,
                      " has no lines: write one JSON object a line, such as {\"prompt\": \"Why is the sky blue?\"}");
  require<InputError>(!lines.empty(), "[text] ", path_, ": all ", done.lines, " lines are longer than ",
                      settings_.context_length, " tokens and were left out; raise the length");
  done.turns = chat_ != nullptr;
  if (counts != nullptr) *counts = done;
  return lines;
}

KDLIB_FUNC TextLine TextLineReader::line(const Json& object, const std::string& source) const {
  if (!object.is_object())
    object.refuse(
        "is not an object; write {\"prompt\": \"...\"}, {\"messages\": [...]}, {\"text\": \"...\"} or {\"ids\": "
        "[...]}");
  TextLine out;
  try {
    out = read_form(object, source);
    out.source = source;
    check(out);
    TextCounts not_asked_for;
    if (settings_.too_long == TooLong::refuse)
      fit_length(out, settings_.context_length, settings_.too_long, not_asked_for);
  } catch (const InputError& error) {  // a tokenizer or template does not know which line it was given
    if (std::string_view(error.what()).find(source) != std::string_view::npos) throw;
    fail<InputError>("[text] ", source, ": ", error.what());
  }
  return out;
}

KDLIB_FUNC TextLine TextLineReader::read_form(const Json& object, const std::string& source) const {
  if (const auto prompt = object.find("prompt")) {
    detail::check_keys(object, settings_.teachers, {"prompt"});
    return prompt_text(*prompt, source);
  }
  if (object.contains("messages")) {
    detail::check_keys(object, settings_.teachers, {"messages", "tools", "documents", "chat_template_kwargs"});
    return conversation(object, source);
  }
  if (const auto ids = object.find("prompt_ids")) {
    detail::check_keys(object, settings_.teachers, {"prompt_ids"});
    return {TextLineKind::prompt, detail::ids_of(*ids), {}, {}};
  }
  if (const auto text = object.find("text")) {
    detail::check_keys(object, settings_.teachers, {"text"});
    return given_text(*text, source);
  }
  if (object.contains("ids")) {
    detail::check_keys(object, settings_.teachers, {"ids", "loss_mask", "spans"});
    return given_ids(object, source);
  }
  object.refuse("has none of the keys prompt, messages, prompt_ids, text, ids: one of them is needed");
}

KDLIB_FUNC const Tokenizer& TextLineReader::tokenizer(const std::string& source, const char* key) const {
  require<ConfigError>(
      tokenizer_ != nullptr, "[text] ", source, ": \"", key,
      "\" needs a tokenizer, and none came with the model: give ids instead ({\"prompt_ids\": [...]} or {\"ids\": "
      "[...]}), or, where the model is on a server, --tokenizer DIR");
  return *tokenizer_;
}

KDLIB_FUNC TextLine TextLineReader::prompt_text(const Json& value, const std::string& source) const {
  const Tokenizer& t = tokenizer(source, "prompt");
  const std::string_view text = value.as_string();
  require<InputError>(!text.empty(), "[text] ", source,
                      ": the prompt is empty: write at least one character, or remove the line");
  TextLine out;
  if (settings_.chat) {
    const std::vector<ChatMessage> messages = {ChatMessage{"user", std::string(text)}};
    const ChatTemplate& written = chat(t);
    RenderOptions options{.add_generation_prompt = true, .add_default_system = settings_.add_default_system};
    add_tools(options, source);
    out.ids = written.ids(t, messages, options);
    if (settings_.keep_chats) out.chat = std::make_shared<const PromptChat>(PromptChat{chat_, messages, options});
  } else {
    out.ids = t.prefix_ids();  // a post-processor's tokens behind a text would end the prompt
    t.encode_append(text, out.ids);
  }
  return out;
}

KDLIB_FUNC const ChatTemplate& TextLineReader::chat(const Tokenizer& tokenizer) const {
  if (!chat_) chat_ = std::make_shared<const ChatTemplate>(chat_template_from(settings_.chat_template, tokenizer));
  return *chat_;
}

namespace detail {

/// Refuses what the template would leave out or misread without a word: unknown roles and keys, tools.
KDLIB_FUNC void check_message(const Json& message, const ChatTemplate& chat) {
  constexpr std::string_view roles[] = {"system", "developer", "user", "assistant", "tool", "function", "ipython"};
  constexpr std::string_view keys[] = {"role",         "content",          "name",        "reasoning_content",
                                       "thinking",     "reasoning",        "tool_calls",  "channel",
                                       "recipient",    "content_type",     "effort",      "cutoff",
                                       "date",         "identity",         "tools",       "functions",
                                       "instructions", "response_formats", "tool_call_id"};
  const auto among = [](const auto& list, std::string_view word) {
    return std::find(std::begin(list), std::end(list), word) != std::end(list);
  };
  const std::string_view role = message.at("role").as_string();
  if (!among(roles, role))
    message.at("role").refuse(
        concat("is \"", printable(role), "\", needed is system, developer, user, assistant or tool"));
  for (const JsonMember& member : message.members())
    if (!among(keys, member.key) && !(chat.flavour() == ChatTemplate::Flavour::jinja && chat.reads(member.key)))
      member.value.refuse(
          "is an unknown key of a message, and the chat template does not read it; remove or rename it");
  if ((role == "tool" || message.find_set("tool_calls")) && !chat.reads("tool"))
    message.refuse("calls a tool or answers for one, but the chat template has no place for tools");
}

/// Options of one line of data.
KDLIB_FUNC RenderOptions line_options(const Json& object, const ChatTemplate& chat, bool add_default_system) {
  RenderOptions options;
  options.add_default_system = add_default_system;
  if (const auto tools = object.find_set("tools")) {
    if (!tools->is_array()) tools->refuse("is no array; give one object for each tool");
    if (tools->size() > 0 && !chat.reads("tools")) tools->refuse("is given, but the chat template never reads tools");
    for (const Json& tool : *tools) options.tools.push_back(python_json(tool));
  }
  options.documents = object.find_set("documents").value_or(Json());
  options.variables = object.find_set("chat_template_kwargs").value_or(Json());
  if (!options.variables.is_null() && !options.variables.is_object())
    options.variables.refuse("is no object; give the template's variables by name");
  if (chat.jinja_chat() == nullptr && (!options.documents.is_null() || !options.variables.is_null()))
    object.refuse("has documents or chat_template_kwargs, which only templates of files read");
  return options;
}

}  // namespace detail

/// The settings' tools, where the line has none of its own.
KDLIB_FUNC void TextLineReader::add_tools(RenderOptions& options, const std::string& source) const {
  if (settings_.tools.empty() || !options.tools.empty()) return;
  require<ConfigError>(chat_ && chat_->reads("tools"), "[text] ", source,
                       ": there are tools, but the chat template never reads tools; choose another one (--template)");
  options.tools = settings_.tools;
}

KDLIB_FUNC TextLine TextLineReader::conversation(const Json& object, const std::string& source) const {
  const Tokenizer& t = tokenizer(source, "messages");
  const Json list = object.at("messages");
  const std::vector<ChatMessage> messages = chat_messages_from_json(list);
  const ChatTemplate& written = chat(t);
  for (const Json& message : list) detail::check_message(message, written);
  RenderOptions options = detail::line_options(object, written, settings_.add_default_system);
  add_tools(options, source);
  if (written.jinja_chat() != nullptr)
    for (const Json& message : list)
      options.join_parts = options.join_parts || message.find("content").value_or(Json()).is_array();
  if (options.join_parts) options.join_parts = !written.jinja_chat()->takes_parts(options);
  if (const auto lost = written.unwritten(messages, options))
    list[*lost].at("role").refuse(concat("is \"", messages[*lost].role,
                                         "\", and the chat template writes nothing of such a message; remove the "
                                         "message, give it another role, or choose another template (--template)"));
  TextLine out;
  if (messages.back().role == "assistant") {
    options.training = true;
    ChatIds rendered = written.render_ids(t, messages, options);
    out = {TextLineKind::given_text, std::move(rendered.ids), std::move(rendered.loss_mask), {}};
    while (!out.mask.empty() && out.mask.back() == 0) {  // what stands behind the last counted token changes nothing
      out.mask.pop_back();
      out.ids.pop_back();
    }
    require<InputError>(
        !out.ids.empty(), "[text] ", source,
        ": the assistant's turn is empty: write an answer, or remove the turn to make the line a prompt");
  } else {
    if (messages.back().role == "system" || messages.back().role == "developer")
      list[list.size() - 1].refuse(
          "ends the conversation with instructions; a user's or tool's turn is needed to answer");
    options.add_generation_prompt = true;
    out.ids = written.ids(t, messages, options);
    if (settings_.keep_chats) out.chat = std::make_shared<const PromptChat>(PromptChat{chat_, messages, options});
  }
  return out;
}

KDLIB_FUNC TextLine TextLineReader::given_text(const Json& value, const std::string& source) const {
  const Tokenizer& t = tokenizer(source, "text");
  TextLine out{TextLineKind::given_text, {}, {}, {}};
  t.encode_append(value.as_string(), out.ids, {.add_special_tokens = true});
  out.mask.assign(out.ids.size(), 1);
  return out;
}

KDLIB_FUNC TextLine TextLineReader::given_ids(const Json& object, const std::string& source) const {
  TextLine out{TextLineKind::given_text, detail::ids_of(object.at("ids")), {}, {}};
  if (const auto spans = object.find("spans")) {
    if (!spans->is_array()) spans->refuse("is not an array; one number for each id is needed");
    for (const Json& element : *spans) {
      const std::int64_t number = element.as_int();
      if (number < -1 || number > 65535) element.refuse("is not the number of a span: 0 to 65535, or -1 for none");
      out.spans.push_back(static_cast<std::int32_t>(number));
    }
    require<FormatError>(out.spans.size() == out.ids.size(), "[text] ", source, ": spans has ", out.spans.size(),
                         " entries for ", out.ids.size(), " ids: give one for each");
  }
  const auto mask = object.find("loss_mask");
  if (!mask) {
    out.mask.assign(out.ids.size(), 1);
    return out;
  }
  if (!mask->is_array()) mask->refuse("is not an array; one 0 or 1 for each id is needed");
  for (const Json& element : *mask) {
    const bool counts = element.is_bool() ? element.as_bool() : element.as_int() != 0;
    if (!element.is_bool() && element.as_int() != 0 && element.as_int() != 1) element.refuse("is neither 0 nor 1");
    out.mask.push_back(counts ? 1 : 0);
  }
  require<FormatError>(out.mask.size() == out.ids.size(), "[text] ", source, ": loss_mask has ", out.mask.size(),
                       " entries for ", out.ids.size(), " ids: give one for each");
  return out;
}

KDLIB_FUNC void TextLineReader::check(const TextLine& line) const {
  const char* what = line.kind == TextLineKind::prompt ? "prompt" : "text";
  require<InputError>(!line.ids.empty(), "[text] ", line.source, ": the ", what,
                      " is empty: give at least one token, or remove the line");
  if (settings_.vocabulary > 0)
    for (std::size_t i = 0; i < line.ids.size(); ++i)
      require<InputError>(line.ids[i] < settings_.vocabulary, "[text] ", line.source, ": id ", line.ids[i],
                          " at position ", i, " is outside the vocabulary of ", settings_.vocabulary,
                          "; make the ids with this model's tokenizer");
  if (line.kind == TextLineKind::prompt) return;
  require<InputError>(
      !settings_.needs_rows || std::find(line.mask.begin() + 1, line.mask.end(), std::uint8_t{1}) != line.mask.end(),
      "[text] ", line.source,
      ": no token counts: the text needs two or more tokens, and one behind the first that loss_mask (or an "
      "assistant's turn) marks");
}

KDLIB_FUNC std::vector<TextLine> read_text_lines(const std::string& path, const Tokenizer* tokenizer,
                                                 const TextSettings& settings, TextCounts* counts) {
  return TextLineReader(path, tokenizer, settings).read_all(counts);
}

KDLIB_FUNC void check_template_is_read(const std::string& program, const std::string& chat_template, bool turns,
                                       const std::string& paths) {
  require<SettingsError>(turns || chat_template.empty(), "[", program, "] --template ", chat_template,
                         " is for turns of conversations, and ", paths,
                         " has none: its lines are text or ids; leave the option out");
}

KDLIB_FUNC void append_line(TokenBatch& batch, const TextLine& line) {
  require<InputError>(line.kind == TextLineKind::given_text, "[text] ", line.source,
                      " is a prompt without an answer; given text is needed here: "
                      "{\"text\": ...}, {\"messages\": [...]} ending with the assistant, or {\"ids\": [...]}");
  std::vector<std::int32_t> spans(line.spans.begin() + (line.spans.empty() ? 0 : 1),
                                  line.spans.end());  // of the next token
  if (!line.spans.empty()) spans.push_back(-1);
  batch.append(line.ids, row_weights(line.mask), spans);
  batch.sources.resize(static_cast<std::size_t>(batch.documents()));
  batch.sources.back() = line.source;
}

KDLIB_FUNC TokenBatch read_documents(const std::string& path, const Tokenizer* tokenizer, const TextSettings& settings,
                                     TextCounts* counts) {
  TokenBatch batch;
  for (const TextLine& line : read_text_lines(path, tokenizer, settings, counts)) append_line(batch, line);
  return batch;
}

KDLIB_NAMESPACE_END

#endif
