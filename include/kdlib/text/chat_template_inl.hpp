// SPDX-License-Identifier: Apache-2.0
// Bodies of chat_template.hpp: recognition and ids. What the flavours write is in chat_writer_inl.hpp.
#ifndef KDLIB_TEXT_CHAT_TEMPLATE_INL_HPP
#define KDLIB_TEXT_CHAT_TEMPLATE_INL_HPP

#include <algorithm>

#include "kdlib/text/chat_template.hpp"
#include "kdlib/text/chat_writer_inl.hpp"
#include "kdlib/text/harmony.hpp"
#include "kdlib/text/harmony_writer_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::string_view smollm2_system =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
inline constexpr std::string_view qwen2_5_system =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
inline constexpr std::string_view qwen_base_system = "You are a helpful assistant.";

/// Jinja without what does not matter: white space outside quotes, trim marks, the kind of quotes and line feeds,
/// m.role for m['role'].
inline std::string squeeze_jinja(std::string_view jinja) {
  std::string out;
  char quote = 0;
  for (std::size_t i = 0; i < jinja.size(); ++i) {
    const char c = jinja[i];
    if (quote == 0) {
      if (c == '\'' || c == '"') quote = c;
      if (c != ' ' && c != '\n' && c != '\r' && c != '\t') out += quote != 0 ? '\'' : c;
    } else if (c == quote) {
      quote = 0;
      out += '\'';
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
      if (c == '\\' && i + 1 < jinja.size()) out += jinja[++i];
    }
  }
  const auto replace = [&](std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = out.find(from, at)) != std::string::npos; at += to.size())
      out.replace(at, from.size(), to);
  };
  replace("{%-", "{%");
  replace("-%}", "%}");
  replace("{{-", "{{");
  replace("-}}", "}}");
  replace("message.role", "message['role']");
  replace("message.content", "message['content']");
  replace("messages[0].role", "messages[0]['role']");
  replace("'<|im_end|>'+'\\n'", "'<|im_end|>\\n'");
  replace("{%ifnotadd_generation_promptisdefined%}{%setadd_generation_prompt=false%}{%endif%}", "");
  return out;
}

/// Templates that are one loop over all turns, with or without a system turn before a conversation that has none.
inline bool read_simple_chatml(std::string_view jinja, std::string& default_system) {
  const std::string text = squeeze_jinja(jinja);
  constexpr std::string_view head = "{%formessageinmessages%}";
  constexpr std::string_view tail =
      "{{'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>\\n'}}{%endfor%}"
      "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}";
  constexpr std::string_view open = "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system\\n";
  constexpr std::string_view close = "<|im_end|>\\n'}}{%endif%}";
  if (text.size() < head.size() + tail.size() || text.compare(0, head.size(), head) != 0 ||
      text.compare(text.size() - tail.size(), tail.size(), tail) != 0)
    return false;
  const std::string_view middle = std::string_view(text).substr(head.size(), text.size() - head.size() - tail.size());
  default_system.clear();
  if (middle.empty()) return true;
  if (middle.size() <= open.size() + close.size() || middle.substr(0, open.size()) != open ||
      middle.substr(middle.size() - close.size()) != close)
    return false;
  default_system = middle.substr(open.size(), middle.size() - open.size() - close.size());
  return default_system.find_first_of("\\'\"{}") == std::string::npos;  // an escape or an expression would need Jinja
}

inline std::vector<ChatPart> write_chat(ChatTemplate::Flavour flavour, std::string_view default_system,
                                        std::span<const ChatMessage> messages, const RenderOptions& options) {
  if (flavour == ChatTemplate::Flavour::harmony) return HarmonyWriter(options).write(messages);
  return ChatWriter(flavour, default_system, options).write(messages);
}

inline std::vector<ChatPart> write_chat_prompt(ChatTemplate::Flavour flavour, std::string_view default_system,
                                               const RenderOptions& options) {
  if (flavour == ChatTemplate::Flavour::harmony) return HarmonyWriter(options).write_prompt();
  return ChatWriter(flavour, default_system, options).write_prompt();
}

}  // namespace detail

inline ChatTemplate ChatTemplate::chatml(std::string default_system) {
  return {Flavour::chatml, std::move(default_system)};
}
inline ChatTemplate ChatTemplate::smollm2() { return chatml(std::string(detail::smollm2_system)); }
inline ChatTemplate ChatTemplate::qwen2_5() { return {Flavour::qwen2_5, std::string(detail::qwen2_5_system)}; }
inline ChatTemplate ChatTemplate::qwen3() { return {Flavour::qwen3, {}}; }
inline ChatTemplate ChatTemplate::harmony() { return {Flavour::harmony, {}}; }

inline ChatTemplate ChatTemplate::recognise(std::string_view jinja, std::string_view source) {
  constexpr std::string_view advice =
      "; choose --template chatml (ChatTemplate::chatml()) if its turns are <|im_start|>role ... <|im_end|>, "
      "--template harmony if they are <|start|>role<|message|> ... <|end|>";
  const auto has = [&](std::string_view part) { return jinja.find(part) != std::string_view::npos; };
  require<ConfigError>(!jinja.empty(), "[chat template] ", source, ": there is no chat template beside this tokenizer",
                       advice);
  if (has("<|start|>") && has("<|message|>") && has("<|channel|>")) return harmony();
  std::string system;
  if (detail::read_simple_chatml(jinja, system)) return chatml(system);
  // Longer templates of Qwen: the parts that set the flavours apart, none of those that other relatives add.
  const bool qwen = has("<|im_start|>") && has("# Tools") && has("<tool_call>\\n{\\\"name\\\": <function-name>") &&
                    has("<tool_response>") && !has("image") && !has("xml_tools");
  if (qwen && has("last_query_index") && has("reasoning_content") && has("enable_thinking is false")) return qwen3();
  if (qwen && !has("think")) {
    if (has(detail::qwen2_5_system)) return qwen2_5();
    if (has(detail::qwen_base_system)) return {Flavour::qwen2_5, std::string(detail::qwen_base_system)};
  }
  fail<ConfigError>(
      "[chat template] ", source,
      ": this chat template is none that kdlib knows (SmolLM2, Qwen2, Qwen2.5, Qwen3, plain ChatML, Harmony)", advice);
}

inline ChatTemplate ChatTemplate::from_name(std::string_view name, const Tokenizer& tokenizer) {
  if (name.empty()) return of(tokenizer);
  if (name == "harmony") {
    const std::string missing = detail::missing_harmony_tokens(tokenizer);
    require<ConfigError>(missing.empty(), "[chat template] ", tokenizer.source(),
                         ": --template harmony needs the tokens of gpt-oss, and this tokenizer has no ", missing);
    return harmony();
  }
  require<ConfigError>(name == "chatml", "[chat template] unknown template \"", name,
                       "\"; kdlib knows chatml and harmony");
  try {
    return of(tokenizer);
  } catch (const ConfigError&) {  // not one of ours: the caller says that it is ChatML
    return chatml();
  }
}

inline std::string ChatTemplate::render(std::span<const ChatMessage> messages, const RenderOptions& options) const {
  std::string text;
  for (const detail::ChatPart& part : detail::write_chat(flavour_, default_system_, messages, options))
    text += part.text;
  return text;
}

inline ChatIds ChatTemplate::render_ids(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                        const RenderOptions& options, ChatMask mask, SpecialTokens content) const {
  RenderOptions turns = options;
  turns.add_generation_prompt = false;
  if (flavour_ == Flavour::harmony) HarmonyTokens::of(tokenizer);
  ChatIds out;
  const auto encode = [&](const std::vector<detail::ChatPart>& parts) {
    std::string text;
    const auto flush = [&] {
      tokenizer.encode_append(text, out.ids, {content, false});
      text.clear();
    };
    for (const detail::ChatPart& part : parts) {
      const auto id = part.token && content != SpecialTokens::parse ? tokenizer.token_to_id(part.text) : std::nullopt;
      if (!id) {  // a text, or a token name that this vocabulary writes as text (Qwen2.5: <tool_response>)
        text += part.text;
        continue;
      }
      flush();
      out.ids.push_back(*id);
    }
    flush();
  };
  encode(detail::write_chat(flavour_, default_system_, messages, turns));
  out.loss_mask = flavour_ == Flavour::harmony ? harmony_masks(tokenizer, out.ids, mask).loss
                                               : chatml_loss_mask(tokenizer, out.ids, mask);
  if (options.add_generation_prompt) encode(detail::write_chat_prompt(flavour_, default_system_, options));
  out.loss_mask.resize(out.ids.size(), 0);
  return out;
}

inline std::vector<std::uint8_t> chatml_loss_mask(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                                  ChatMask mask) {
  const auto start = tokenizer.token_to_id("<|im_start|>"), end = tokenizer.token_to_id("<|im_end|>");
  require<InputError>(start && end, "[chat template] ", tokenizer.source(),
                      ": the tokenizer has no <|im_start|> and <|im_end|>; ChatML needs them");
  const std::vector<std::int32_t> role = tokenizer.encode("assistant", SpecialTokens::plain);
  std::vector<std::uint8_t> out(ids.size(), 0);
  const auto opens_line = [&](std::size_t i) {
    return i < ids.size() && tokenizer.token_bytes(ids[i]).substr(0, 1) == "\n";
  };
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != *start || ids.size() - i - 1 < role.size() ||
        !std::equal(role.begin(), role.end(), ids.begin() + static_cast<std::ptrdiff_t>(i) + 1))
      continue;
    std::size_t at = i + 1 + role.size();
    if (!opens_line(at)) continue;  // another role that begins with the same letters
    out[at++] = mask.header;
    while (at < ids.size() && ids[at] != *end) out[at++] = 1;
    if (at < ids.size()) out[at++] = mask.end_of_turn;
    if (opens_line(at)) out[at++] = mask.trailing_newline;
    i = at - 1;
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
