// SPDX-License-Identifier: Apache-2.0
// What ChatTemplate::harmony() writes, as parts: the framing tokens apart from text.
#ifndef KDLIB_TEXT_HARMONY_WRITER_INL_HPP
#define KDLIB_TEXT_HARMONY_WRITER_INL_HPP

#include "kdlib/text/chat_writer_inl.hpp"
#include "kdlib/text/harmony_tools_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class HarmonyWriter {
 public:
  explicit HarmonyWriter(const RenderOptions& options) : options_(options) {}

  std::vector<ChatPart> write(std::span<const ChatMessage> messages) {
    require<InputError>(!messages.empty(), "[chat template] a conversation needs at least one message");
    turns_.clear();
    parts_.clear();
    for (const ChatMessage& message : messages) add(message);
    add_settings();
    drop_past_analysis();
    for (std::size_t i = 0; i < turns_.size(); ++i) write_turn(turns_[i], i + 1 == turns_.size());
    if (options_.add_generation_prompt) prompt();
    return std::move(parts_);
  }

  std::vector<ChatPart> write_prompt() {
    parts_.clear();
    prompt();
    return std::move(parts_);
  }

 private:
  /// One message of the stream. A ChatMessage with a thought or with tool calls becomes several.
  struct Turn {
    std::string role, author, channel, recipient, content_type, content;
    std::optional<HarmonySystem> system = {};
    std::optional<HarmonyDeveloper> developer = {};
  };

  void add(const ChatMessage& message) {
    const std::string& role = message.role;
    const bool known =
        role == "system" || role == "developer" || role == "user" || role == "assistant" || role == "tool";
    require<InputError>(known,
                        "[chat template] Harmony has the roles system, developer, user, assistant and tool, not \"",
                        printable(role), "\"");
    require<InputError>(role == "assistant" || (message.tool_calls.empty() && !message.reasoning),
                        "[chat template] a message of role ", role,
                        " has tool_calls or reasoning_content; in Harmony only the assistant's have");
    Turn turn{role,
              message.name,
              message.channel,
              message.recipient == "all" ? std::string() : message.recipient,
              message.content_type,
              message.content};
    if (!message.name.empty() && role != "tool") turn.author = concat(role, ":", message.name);
    if (message.name.empty()) turn.author = role;
    turn.system = message.system;
    turn.developer = message.developer;
    if (role == "tool") add_tool_answer(std::move(turn));
    else if (role == "assistant") add_assistant(message, std::move(turn));
    else turns_.push_back(std::move(turn));
  }

  /// A tool's answer without a name, channel or recipient answers the last call.
  void add_tool_answer(Turn turn) {
    std::size_t call = turns_.size();
    while (call > 0 && (turns_[call - 1].role != "assistant" || turns_[call - 1].recipient.empty())) --call;
    require<InputError>(call > 0 || turn.author != "tool",
                        "[chat template] a message of role tool has no name and answers no call before it");
    if (call > 0) {
      const Turn& asked = turns_[call - 1];
      if (turn.author == "tool" || concat("functions.", turn.author) == asked.recipient) turn.author = asked.recipient;
      if (turn.channel.empty()) turn.channel = asked.channel;
    }
    if (turn.recipient.empty()) turn.recipient = "assistant";
    turns_.push_back(std::move(turn));
  }

  void add_assistant(const ChatMessage& message, Turn turn) {
    if (message.reasoning) {
      require<InputError>(turn.channel != "analysis",
                          "[chat template] an assistant's message on channel analysis has reasoning_content too");
      turns_.push_back({"assistant", turn.author, "analysis", {}, {}, *message.reasoning});
    }
    if (message.tool_calls.empty()) {
      if (turn.channel.empty()) turn.channel = turn.recipient.empty() ? "final" : "commentary";
      turns_.push_back(std::move(turn));
      return;
    }
    require<InputError>(turn.recipient.empty(),
                        "[chat template] an assistant's message has both tool_calls and a recipient");
    if (!turn.content.empty()) {  // what is said before a call
      if (turn.channel.empty()) turn.channel = "commentary";
      turns_.push_back(turn);
    }
    for (const ToolCall& call : message.tool_calls)
      turns_.push_back({"assistant", turn.author, "commentary", concat("functions.", call.name), "<|constrain|>json",
                        call.arguments});
  }

  /// The default system message and the offered tools of RenderOptions.
  void add_settings() {
    if (options_.add_default_system && turns_.front().role != "system")
      turns_.insert(turns_.begin(), Turn{"system", "system", {}, {}, {}, {}, options_.system});
    if (!options_.tools.empty()) {
      std::size_t at = 0;
      while (at < turns_.size() && turns_[at].role != "developer") ++at;
      if (at == turns_.size()) {
        at = turns_.front().role == "system" ? 1 : 0;
        turns_.insert(turns_.begin() + static_cast<std::ptrdiff_t>(at),
                      Turn{"developer", "developer", {}, {}, {}, {}, {}, HarmonyDeveloper{}});
      }
      require<InputError>(
          turns_[at].developer.has_value(),
          "[chat template] tools are given, but the developer message is plain text; write it as instructions");
      for (std::size_t i = 0; i < options_.tools.size(); ++i)
        turns_[at].developer->functions.push_back(
            harmony_function_from_json(Json::parse(options_.tools[i], concat("tools[", i, "]"))));
    }
    for (const Turn& turn : turns_)
      has_functions_ = has_functions_ || (turn.developer && !turn.developer->functions.empty());
  }

  static bool is_final(const Turn& turn) { return turn.role == "assistant" && turn.channel == "final"; }

  void drop_past_analysis() {
    std::size_t end = 0;  // thoughts before it go
    if (options_.past_analysis == PastAnalysis::reference) {
      std::size_t last = turns_.size();
      while (last > 0 && turns_[last - 1].role != "assistant") --last;
      if (last > 0 && is_final(turns_[last - 1]))
        while (!is_final(turns_[end])) ++end;
    } else if (options_.past_analysis == PastAnalysis::all_finished) {
      for (std::size_t i = 0; i < turns_.size(); ++i) {
        const bool target = options_.training && i + 1 == turns_.size();
        if (turns_[i].role == "user" || (is_final(turns_[i]) && !target)) end = i;
      }
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < turns_.size(); ++i) {
      if (i < end && turns_[i].channel == "analysis") continue;  // calls of built-in tools and their answers too
      if (kept != i) turns_[kept] = std::move(turns_[i]);
      ++kept;
    }
    turns_.resize(kept);
  }

  void token(std::string_view name) { parts_.push_back({std::string(name), true}); }
  void text(std::string_view words) {
    if (words.empty()) return;
    if (parts_.empty() || parts_.back().token) parts_.push_back({{}, false});
    parts_.back().text += words;
  }

  void prompt() {
    token("<|start|>");
    text("assistant");
  }

  void write_turn(const Turn& turn, bool last) {
    constexpr std::string_view constrain = "<|constrain|>";
    token("<|start|>");
    text(turn.author);
    if (!turn.recipient.empty()) text(concat(" to=", turn.recipient));
    if (!turn.channel.empty()) {
      token("<|channel|>");
      text(turn.channel);
    }
    if (!turn.content_type.empty()) {
      text(" ");
      const bool marked = std::string_view(turn.content_type).substr(0, constrain.size()) == constrain;
      if (marked) token(constrain);
      text(std::string_view(turn.content_type).substr(marked ? constrain.size() : 0));
    }
    token("<|message|>");
    text(turn.system ? system_text(*turn.system) : turn.developer ? developer_text(*turn.developer) : turn.content);
    const bool called = turn.role == "assistant" && !turn.recipient.empty();
    token(called ? "<|call|>" : options_.training && last && is_final(turn) ? "<|return|>" : "<|end|>");
  }

  std::string system_text(const HarmonySystem& system) const {
    require<InputError>(system.effort == "low" || system.effort == "medium" || system.effort == "high",
                        "[chat template] the reasoning effort is \"", printable(system.effort),
                        "\"; Harmony has low, medium and high");
    std::string out = system.identity;
    if (!system.cutoff.empty()) out += concat("\nKnowledge cutoff: ", system.cutoff);
    if (!system.date.empty()) out += concat("\nCurrent date: ", system.date);
    out += concat("\n\nReasoning: ", system.effort);
    if (!system.tools.empty()) out += "\n\n" + write_tools(system.tools);
    out += "\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.";
    if (has_functions_) out += "\nCalls to these tools must go to the commentary channel: 'functions'.";
    return out;
  }

  static std::string developer_text(const HarmonyDeveloper& developer) {
    std::string out;
    const auto section = [&](const std::string& words) { out += out.empty() ? words : "\n\n" + words; };
    if (developer.instructions) section(concat("# Instructions\n\n", *developer.instructions));
    if (!developer.functions.empty()) section(write_functions(developer.functions));
    if (!developer.formats.empty()) section(write_formats(developer.formats));
    return out;
  }

  const RenderOptions& options_;
  std::vector<Turn> turns_;
  std::vector<ChatPart> parts_;
  bool has_functions_ = false;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
