// SPDX-License-Identifier: Apache-2.0
// Bodies of chat_template.hpp. What the built-in flavours write is in chat_writer_inl.hpp.
#ifndef KDLIB_TEXT_CHAT_TEMPLATE_INL_HPP
#define KDLIB_TEXT_CHAT_TEMPLATE_INL_HPP

#include <algorithm>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/chat_ids_inl.hpp"
#include "kdlib/text/chat_jinja.hpp"
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
KDLIB_FUNC std::vector<ChatPart> write_chat(ChatTemplate::Flavour flavour, std::string_view default_system,
                                            std::span<const ChatMessage> messages, const RenderOptions& options) {
  if (flavour == ChatTemplate::Flavour::harmony) return HarmonyWriter(options).write(messages);
  return ChatWriter(flavour, default_system, options).write(messages);
}

KDLIB_FUNC std::vector<ChatPart> write_chat_prompt(ChatTemplate::Flavour flavour, std::string_view default_system,
                                                   const RenderOptions& options) {
  if (flavour == ChatTemplate::Flavour::harmony) return HarmonyWriter(options).write_prompt();
  return ChatWriter(flavour, default_system, options).write_prompt();
}

}  // namespace detail

KDLIB_FUNC ChatTemplate ChatTemplate::chatml(std::string default_system) {
  return {Flavour::chatml, std::move(default_system)};
}
KDLIB_FUNC ChatTemplate ChatTemplate::smollm2() { return chatml(std::string(detail::smollm2_system)); }
KDLIB_FUNC ChatTemplate ChatTemplate::qwen2_5() { return {Flavour::qwen2_5, std::string(detail::qwen2_5_system)}; }
KDLIB_FUNC ChatTemplate ChatTemplate::qwen3() { return {Flavour::qwen3, {}}; }
KDLIB_FUNC ChatTemplate ChatTemplate::harmony() { return {Flavour::harmony, {}}; }

KDLIB_FUNC ChatTemplate ChatTemplate::jinja(JinjaTemplate standard,
                                            std::vector<std::pair<std::string, std::string>> tokens,
                                            std::vector<std::pair<std::string, JinjaTemplate>> named) {
  ChatTemplate out(Flavour::jinja, {});
  out.jinja_ = std::make_shared<detail::JinjaChat>(std::move(standard), std::move(named), std::move(tokens));
  return out;
}

namespace detail {

/// The variables of templates that name tokens.
KDLIB_FUNC std::vector<std::pair<std::string, std::string>> token_variables(const Tokenizer& tokenizer) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto add = [&](const char* name, std::optional<std::int32_t> id) {
    if (id) out.emplace_back(name, tokenizer.token_bytes(*id));
  };
  add("bos_token", tokenizer.bos_id());
  add("eos_token", tokenizer.eos_id());
  add("pad_token", tokenizer.pad_id());
  add("unk_token", tokenizer.unknown_id());
  return out;
}

KDLIB_FUNC std::string template_source(const Tokenizer& tokenizer, std::string_view name) {
  return concat(tokenizer.source(), " (chat template", name.empty() ? "" : " ", name, ")");
}

}  // namespace detail

KDLIB_FUNC ChatTemplate ChatTemplate::of(const Tokenizer& tokenizer) {
  std::optional<JinjaTemplate> standard;
  std::vector<std::pair<std::string, JinjaTemplate>> named;
  if (!tokenizer.chat_template().empty())
    standard.emplace(tokenizer.chat_template(), detail::template_source(tokenizer, ""));
  for (const auto& [name, text] : tokenizer.named_chat_templates())
    named.emplace_back(name, JinjaTemplate(text, detail::template_source(tokenizer, name)));
  require<ConfigError>(standard || !named.empty(), "[chat template] ", tokenizer.source(),
                       ": there is no chat template beside this tokenizer; choose --template chatml if its turns are "
                       "<|im_start|>role ... <|im_end|>, --template harmony if they are <|start|>role<|message|> ... "
                       "<|end|>, or --template FILE with a Jinja template");
  ChatTemplate out(Flavour::jinja, {});
  out.jinja_ =
      std::make_shared<detail::JinjaChat>(std::move(standard), std::move(named), detail::token_variables(tokenizer));
  return out;
}

KDLIB_FUNC ChatTemplate ChatTemplate::from_name(std::string_view name, const Tokenizer& tokenizer) {
  return chat_template_from(name, tokenizer);
}

KDLIB_FUNC ChatTemplate chat_template_from(std::string_view name, const Tokenizer& tokenizer) {
  if (name.empty()) return ChatTemplate::of(tokenizer);
  if (name == "chatml") return ChatTemplate::chatml();
  if (name == "smollm2") return ChatTemplate::smollm2();
  if (name == "qwen2.5") return ChatTemplate::qwen2_5();
  if (name == "qwen3") return ChatTemplate::qwen3();
  if (name == "harmony") {
    const std::string missing = detail::missing_harmony_tokens(tokenizer);
    require<ConfigError>(missing.empty(), "[chat template] ", tokenizer.source(),
                         ": --template harmony needs the tokens of gpt-oss, and this tokenizer has no ", missing);
    return ChatTemplate::harmony();
  }
  std::string names = "chatml, smollm2, qwen2.5, qwen3, harmony";
  for (const auto& [own, text] : tokenizer.named_chat_templates()) {
    if (own == name)
      return ChatTemplate::jinja(JinjaTemplate(text, detail::template_source(tokenizer, own)),
                                 detail::token_variables(tokenizer));
    names += concat(", ", own);
  }
  const std::string file(name);
  require<ConfigError>(path_exists(file) && !is_directory(file), "[chat template] \"", printable(name),
                       "\" is no template: kdlib knows ", names, " and files with a Jinja template");
  return ChatTemplate::jinja(JinjaTemplate(read_file(file), file), detail::token_variables(tokenizer));
}

KDLIB_FUNC bool ChatTemplate::reads(std::string_view name) const {
  if (flavour_ == Flavour::jinja) return jinja_->mentions(name);
  return flavour_ != Flavour::chatml;
}

KDLIB_FUNC std::string ChatTemplate::render(std::span<const ChatMessage> messages, const RenderOptions& options) const {
  if (jinja_) return jinja_->render(messages, options).text;
  std::string text;
  for (const detail::ChatPart& part : detail::write_chat(flavour_, default_system_, messages, options))
    text += part.text;
  return text;
}

KDLIB_FUNC std::optional<std::size_t> ChatTemplate::unwritten(std::span<const ChatMessage> messages,
                                                              const RenderOptions& options) const {
  constexpr std::string_view common[] = {"system", "user", "assistant", "tool"};
  if (flavour_ == Flavour::harmony) return std::nullopt;  // its writer refuses the roles that it does not have
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& m = messages[i];
    const bool in_parts = !options.join_parts && m.source.find("content").value_or(Json()).is_array();
    if (m.content.empty() || in_parts || std::find(std::begin(common), std::end(common), m.role) != std::end(common))
      continue;
    std::vector<ChatMessage> changed(messages.begin(), messages.end());
    changed[i].content += "\xEE\x80\x80";  // U+E000
    if (render(changed, options) == render(messages, options)) return i;
  }
  return std::nullopt;
}

namespace detail {

/// Ids of what a built-in flavour writes.
KDLIB_FUNC void encode_parts(const Tokenizer& tokenizer, const std::vector<ChatPart>& parts, SpecialTokens content,
                             std::vector<std::int32_t>& ids) {
  std::string text;
  const auto flush = [&] {
    tokenizer.encode_append(text, ids, {content, false});
    text.clear();
  };
  for (const ChatPart& part : parts) {
    const auto id = part.token && content != SpecialTokens::parse ? tokenizer.token_to_id(part.text) : std::nullopt;
    if (!id) {  // a text, or a token name that this vocabulary writes as text (Qwen2.5: <tool_response>)
      text += part.text;
      continue;
    }
    flush();
    ids.push_back(*id);
  }
  flush();
}

}  // namespace detail

KDLIB_FUNC std::vector<std::int32_t> ChatTemplate::ids(const Tokenizer& tokenizer,
                                                       std::span<const ChatMessage> messages,
                                                       const RenderOptions& options, SpecialTokens content) const {
  if (jinja_) return detail::jinja_ids(*jinja_, tokenizer, messages, options, content).ids;
  return render_ids(tokenizer, messages, options, {}, content).ids;
}

KDLIB_FUNC ChatIds ChatTemplate::render_ids(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                            const RenderOptions& options, ChatMask mask, SpecialTokens content) const {
  ChatIds out;
  if (jinja_) {
    detail::JinjaIds made = detail::jinja_ids(*jinja_, tokenizer, messages, options, content);
    const auto learned = jinja_->learned(messages, options, made.output, mask, detail::turn_ends(tokenizer));
    out.loss_mask = detail::mask_of_spans(tokenizer, made.output.text, learned, made.ids);
    out.ids = std::move(made.ids);
    return out;
  }
  RenderOptions turns = options;
  turns.add_generation_prompt = false;
  if (flavour_ == Flavour::harmony) HarmonyTokens::of(tokenizer);
  detail::encode_parts(tokenizer, detail::write_chat(flavour_, default_system_, messages, turns), content, out.ids);
  out.loss_mask = flavour_ == Flavour::harmony ? harmony_masks(tokenizer, out.ids, mask).loss
                                               : chatml_loss_mask(tokenizer, out.ids, mask);
  if (options.add_generation_prompt)
    detail::encode_parts(tokenizer, detail::write_chat_prompt(flavour_, default_system_, options), content, out.ids);
  out.loss_mask.resize(out.ids.size(), 0);
  return out;
}

KDLIB_FUNC std::vector<std::uint8_t> chatml_loss_mask(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
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
