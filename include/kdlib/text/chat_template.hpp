// SPDX-License-Identifier: Apache-2.0
// Chat templates of the ChatML family (SmolLM2, Qwen2, Qwen2.5, Qwen3) and Harmony (gpt-oss): conversations as text and
// as ids with a loss mask. A tokenizer's Jinja text is only recognised, never run.
#ifndef KDLIB_TEXT_CHAT_TEMPLATE_HPP
#define KDLIB_TEXT_CHAT_TEMPLATE_HPP

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/chat_mask.hpp"
#include "kdlib/text/chat_message.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which messages on channel analysis (thoughts, calls of built-in tools and their answers) of a Harmony conversation
/// are left out.
enum class PastAnalysis {
  off,          // none
  reference,    // openai-harmony: those before the first final message, if the assistant's last message is on final
  all_finished  // those of every turn that a final or a user's message ended; the turn of a training target is kept
};

/// How a conversation is written out.
struct RenderOptions {
  bool add_generation_prompt = false;   // end with the opening of an assistant turn
  bool add_default_system = true;       // the template's own system turn where the conversation has none
  bool enable_thinking = true;          // false: the generation prompt of Qwen3 closes an empty thought
  std::vector<std::string> tools = {};  // one JSON text a tool, as python_json writes it (Qwen and Harmony)
  // Harmony only:
  bool training = false;  // a final message at the end is a training target: <|return|> ends it
  PastAnalysis past_analysis = PastAnalysis::all_finished;
  HarmonySystem system = {};  // what add_default_system writes
};

/// Ids of a conversation. loss_mask[i] is 1 when token i counts as something the model should have written (weight i -
/// 1 of a TokenBatch).
struct ChatIds {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> loss_mask;
};

class ChatTemplate {
 public:
  /// All but Harmony: the turns of ChatML are `<|im_start|>role\ncontent<|im_end|>\n`; the flavours differ in the rest.
  enum class Flavour {
    chatml,   // any role; perhaps a default system turn (SmolLM2, Qwen2)
    qwen2_5,  // default system turn, tools
    qwen3,    // tools and thoughts; thoughts of earlier turns are left out
    harmony   // gpt-oss, as openai-harmony writes it; its own tokens, see harmony.hpp
  };

  /// Plain ChatML without a default system turn: what `--template chatml` means for a model of unknown template.
  static ChatTemplate chatml(std::string default_system = {});
  static ChatTemplate smollm2();
  static ChatTemplate qwen2_5();
  static ChatTemplate qwen3();
  static ChatTemplate harmony();

  /// Recognises a Jinja text; `source` opens the message. ConfigError for templates that kdlib does not know, with what
  /// to do.
  static ChatTemplate recognise(std::string_view jinja, std::string_view source);
  /// From the tokenizer's files.
  static ChatTemplate of(const Tokenizer& tokenizer) {
    return recognise(tokenizer.chat_template(), tokenizer.source());
  }
  /// From a program's --template: "chatml" takes the tokenizer's own flavour where it is recognised and plain ChatML
  /// elsewhere; "harmony" needs a tokenizer with Harmony's tokens; "" is of(tokenizer). ConfigError for other names.
  static ChatTemplate from_name(std::string_view name, const Tokenizer& tokenizer);

  /// The conversation as text. InputError: no messages; tools or tool calls or reasoning for a flavour that has no
  /// place for them; a JSON schema that Harmony cannot write; a role that it does not have.
  std::string render(std::span<const ChatMessage> messages, const RenderOptions& options = {}) const;

  /// The conversation as ids. The template's own tokens are ids; in contents `content` decides: by default special
  /// tokens there are text, so that no content can close its turn. SpecialTokens::parse gives the ids of render()'s
  /// text. InputError as render(), and when the tokenizer lacks <|im_start|> or <|im_end|>, or Harmony's tokens.
  ChatIds render_ids(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                     const RenderOptions& options = {}, ChatMask mask = {},
                     SpecialTokens content = SpecialTokens::special_text) const;

  Flavour flavour() const { return flavour_; }
  const std::string& default_system() const { return default_system_; }  // empty: none

 private:
  ChatTemplate(Flavour flavour, std::string default_system)
      : flavour_(flavour), default_system_(std::move(default_system)) {}
  Flavour flavour_;
  std::string default_system_;
};

/// Loss mask of ChatML ids, found in the ids alone: from behind each `<|im_start|>assistant\n` to its <|im_end|>, or to
/// the end of the ids when the turn is cut. A token that holds the header's newline and more counts as header.
/// InputError: no ChatML tokens.
std::vector<std::uint8_t> chatml_loss_mask(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                           ChatMask mask = {});

KDLIB_NAMESPACE_END

#include "kdlib/text/chat_template_inl.hpp"

#endif
