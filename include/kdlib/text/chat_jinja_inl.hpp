// SPDX-License-Identifier: Apache-2.0
// Bodies of chat_jinja.hpp: rendering. What the assistant wrote is in chat_learned_inl.hpp.
#ifndef KDLIB_TEXT_CHAT_JINJA_INL_HPP
#define KDLIB_TEXT_CHAT_JINJA_INL_HPP

#include <algorithm>

#include "kdlib/text/chat_jinja.hpp"
#include "kdlib/text/jinja_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC TokenGuard::TokenGuard(std::span<const AddedToken> tokens, bool plain, std::string mark)
    : mark_(std::move(mark)) {
  for (const AddedToken& token : tokens)
    if ((plain || token.special) && !token.content.empty()) matcher_.add(token.content, &token);
  matcher_.finish();
}

KDLIB_FUNC std::optional<std::string> TokenGuard::broken(std::string_view text) const {
  AddedTokenMatcher::Match match = matcher_.find(text, 0);
  if (match.token == nullptr) return std::nullopt;
  std::string out;
  std::size_t done = 0;
  for (; match.token != nullptr; match = matcher_.find(text, match.end)) {
    std::size_t at = match.begin;
    next_code_point(text.data(), at);
    out += text.substr(done, at - done);
    out += mark_;
    done = at;
  }
  return out += text.substr(done);
}

/// Builds what the template sees.
class ChatValues {
 public:
  ChatValues(JinjaHeap& heap, const TokenGuard* guard, const RenderOptions& options)
      : heap_(heap), guard_(guard), options_(options) {}

  JinjaValue string(std::string_view text) const {
    if (guard_ != nullptr)
      if (const auto broken = guard_->broken(text)) return heap_.copy(*broken);
    return JinjaValue::of(text);
  }
  JinjaValue json(const Json& value) const {
    return heap_.from_json(value, [this](std::string_view text) { return string(text); });
  }

  JinjaValue message(const ChatMessage& m) {
    members_.clear();
    if (m.source.is_object()) from_source(m);
    else from_fields(m);
    if (options_.preprocess) tidy();
    return heap_.dict(members_);
  }

 private:
  void add(std::string_view key, const JinjaValue& value) { members_.push_back({JinjaValue::of(key), value}); }

  void from_source(const ChatMessage& m) {
    for (const auto& [key, value] : m.source.members()) {
      if (key == "role") add(key, string(m.role));
      else if (key == "content" && (value.is_string() || (value.is_array() && options_.join_parts)))
        add(key, string(m.content));
      else add(key, json(value));
    }
  }

  void from_fields(const ChatMessage& m) {
    add("role", string(m.role));
    add("content", string(m.content));
    if (m.reasoning) add("reasoning_content", string(*m.reasoning));
    if (!m.name.empty()) add("name", string(m.name));
    if (m.tool_calls.empty()) return;
    std::vector<JinjaValue> calls;
    for (const ToolCall& call : m.tool_calls) {
      const JinjaValue arguments = call.arguments_are_text ? string(call.arguments) : parsed(call.arguments);
      const JinjaMember function[] = {{JinjaValue::of(std::string_view("name")), string(call.name)},
                                      {JinjaValue::of(std::string_view("arguments")), arguments}};
      const JinjaMember entry[] = {
          {JinjaValue::of(std::string_view("type")), JinjaValue::of(std::string_view("function"))},
          {JinjaValue::of(std::string_view("function")), heap_.dict(function)}};
      calls.push_back(heap_.dict(entry));
    }
    add("tool_calls", heap_.list(calls));
  }

  JinjaValue parsed(const std::string& text) {
    texts_.push_back(Json::parse(text, "the arguments of a tool call"));
    return json(texts_.back());
  }

  /// Null keys go; the thought gets both of its names.
  void tidy() {
    std::erase_if(members_, [](const JinjaMember& m) { return m.value.is(JinjaValue::Kind::none); });
    const auto find = [&](std::string_view key) {
      return std::find_if(members_.begin(), members_.end(), [&](const JinjaMember& m) { return m.key.view() == key; });
    };
    for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
      const auto found = find(name);
      if (found == members_.end()) continue;
      const JinjaValue thought = found->value;
      if (find("thinking") == members_.end())
        members_.insert(members_.begin(), {JinjaValue::of(std::string_view("thinking")), thought});
      if (const auto old = find("reasoning_content"); old != members_.end()) old->value = thought;
      else add("reasoning_content", thought);
      return;
    }
  }

  JinjaHeap& heap_;
  const TokenGuard* guard_;
  const RenderOptions& options_;
  std::vector<JinjaMember> members_;
  std::vector<Json> texts_;  // the values' strings lie in them
};

KDLIB_FUNC const JinjaTemplate& JinjaChat::chosen(const RenderOptions& options) const {
  if (!options.tools.empty())
    for (const auto& [name, named] : named_)
      if (name == "tool_use") return named;
  std::string names;
  for (const auto& [name, named] : named_) names += concat(names.empty() ? "" : ", ", name);
  require<ConfigError>(standard_.has_value(), "[chat template] there is no template named default here, only ", names,
                       "; choose one with --template");
  return *standard_;
}

KDLIB_FUNC bool JinjaChat::mentions(std::string_view word) const {
  const auto holds = [&](const JinjaTemplate& t) { return t.source().find(word) != std::string::npos; };
  for (const auto& [name, named] : named_)
    if (holds(named)) return true;
  return standard_ && holds(*standard_);
}

KDLIB_FUNC bool JinjaChat::takes_parts(const RenderOptions& options) const {
  ChatMessage message{"user", {}};
  message.source = Json::parse(R"({"role": "user", "content": [{"type": "text", "text": "kdlib?"}]})", "a message");
  RenderOptions bare = options;
  bare.join_parts = bare.add_generation_prompt = false;
  bare.add_default_system = true;
  const auto text = attempt(std::vector<ChatMessage>{message}, bare);
  return text && text->find("kdlib?") != std::string::npos && text->find("'type'") == std::string::npos &&
         text->find("\"type\"") == std::string::npos;
}

KDLIB_FUNC JinjaOutput JinjaChat::run(std::span<const ChatMessage> messages, const RenderOptions& options,
                                      const TokenGuard* guard) const {
  const JinjaTemplate& jinja = chosen(options);
  std::vector<Json> tools;
  for (std::size_t i = 0; i < options.tools.size(); ++i)
    tools.push_back(Json::parse(options.tools[i], concat("tools[", i, "]")));
  JinjaRun run(jinja.program(), options.clock ? *options.clock : JinjaClock::local_now(), options.limits);
  ChatValues values(run.heap(), guard, options);
  return run.render([&](JinjaRun& to) {
    const auto list = [&](const auto& from, auto&& make) {
      std::vector<JinjaValue> items;
      for (const auto& element : from) items.push_back(make(element));
      return to.heap().list(items);
    };
    to.set("messages", list(messages, [&](const ChatMessage& m) { return values.message(m); }));
    to.set("tools", tools.empty() ? JinjaValue::none() : list(tools, [&](const Json& t) { return values.json(t); }));
    to.set("documents", values.json(options.documents));
    to.set("add_generation_prompt", JinjaValue::of(options.add_generation_prompt));
    if (!options.enable_thinking) to.set("enable_thinking", JinjaValue::of(false));
    for (const auto& [name, text] : tokens_) to.set(name, JinjaValue::of(std::string_view(text)));
    if (options.variables.is_object())
      for (const auto& [name, value] : options.variables.members()) to.set(name, values.json(value));
  });
}

KDLIB_FUNC std::optional<std::string> JinjaChat::attempt(std::span<const ChatMessage> messages,
                                                         const RenderOptions& options, const TokenGuard* guard) const {
  try {
    return render(messages, options, guard).text;
  } catch (const JinjaError&) {  // a part of a conversation may be no conversation to the template
    return std::nullopt;
  }
}

KDLIB_FUNC JinjaOutput JinjaChat::render(std::span<const ChatMessage> messages, const RenderOptions& options,
                                         const TokenGuard* guard) const {
  require<InputError>(!messages.empty(), "[chat template] a conversation needs at least one message");
  if (options.continue_final_message) return continued(messages, options, guard);
  JinjaOutput out = run(messages, options, guard);
  if (options.add_default_system || messages[0].role == "system" || messages[0].role == "developer") return out;
  const std::size_t added = default_system(messages, options, guard, out.text);
  if (added == 0) return out;
  // A token at the front stays: the system turn may stand behind it.
  std::size_t kept = 0;
  for (const auto& [name, text] : tokens_)
    if (name == "bos_token" && out.text.compare(0, text.size(), text) == 0) kept = text.size();
  if (kept > 0 && out.text.compare(added, kept, out.text, 0, kept) == 0) kept = 0;
  out.text.erase(kept, added - std::min(kept, added));
  for (auto& [begin, end] : out.generation) {
    begin -= added - kept;
    end -= added - kept;
  }
  return out;
}

/// The default system turn is what a system message renders as, with other words: the same text before and behind them.
KDLIB_FUNC std::size_t JinjaChat::default_system(std::span<const ChatMessage> messages, const RenderOptions& options,
                                                 const TokenGuard* guard, std::string_view text) const {
  const std::string mark = "\xEE\x80\x80";  // U+E000
  RenderOptions bare = options;
  bare.add_generation_prompt = false;
  bare.add_default_system = true;
  if (!bare.tools.empty()) return 0;  // the turn that names the tools is needed
  const auto system = attempt(std::vector<ChatMessage>{ChatMessage{"system", mark}}, bare);
  if (!system || system->find(mark) == std::string::npos) return 0;
  const std::string_view front = std::string_view(*system).substr(0, system->find(mark));
  const std::string_view back = std::string_view(*system).substr(front.size() + mark.size());
  if (back.empty() || text.substr(0, front.size()) != front) return 0;
  std::vector<ChatMessage> with{ChatMessage{"system", mark}};
  with.insert(with.end(), messages.begin(), messages.end());
  bare.add_generation_prompt = options.add_generation_prompt;
  const auto whole = attempt(with, bare, guard);
  if (!whole || whole->compare(0, system->size(), *system) != 0) return 0;
  const std::string_view turns = std::string_view(*whole).substr(system->size());
  if (turns.size() > text.size() || text.substr(text.size() - turns.size()) != turns) return 0;
  const std::size_t added = text.size() - turns.size();
  const bool fits = added >= front.size() + back.size() && text.substr(added - back.size(), back.size()) == back;
  return fits ? added : 0;
}

/// transformers: a tag at the end of the last content says where the text is cut.
KDLIB_FUNC JinjaOutput JinjaChat::continued(std::span<const ChatMessage> messages, const RenderOptions& options,
                                            const TokenGuard* guard) const {
  constexpr std::string_view tag = "CONTINUE_FINAL_MESSAGE_TAG ", bare = tag.substr(0, tag.size() - 1);
  std::vector<ChatMessage> tagged(messages.begin(), messages.end());
  ChatMessage& last = tagged.back();
  require<InputError>(!last.source.find("content").value_or(Json()).is_array(),
                      "[chat template] the last message is in parts; a message that goes on must be one string");
  const std::string core(strip(last.content));
  last.content += tag;
  RenderOptions plain = options;
  plain.continue_final_message = false;
  JinjaOutput out = render(tagged, plain, guard);
  const std::size_t at = out.text.rfind(bare);
  require<InputError>(at != std::string::npos && out.text.find(core) != std::string::npos, "[chat template] ",
                      chosen(options).name(), ": the last message does not appear in the text; it cannot be continued");
  const bool whole = out.text.compare(at, tag.size(), tag) == 0;
  out.text.resize(at);
  if (!whole) out.text.resize(strip(out.text, Sides::right).size());
  std::erase_if(out.generation, [&](const auto& span) { return span.first >= out.text.size(); });
  for (auto& span : out.generation) span.second = std::min(span.second, out.text.size());
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
