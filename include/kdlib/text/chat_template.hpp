// SPDX-License-Identifier: Apache-2.0
// Chat templates write conversations as text, or as ids with a loss mask. Templates of files are Jinja templates and
// are run without changes. ChatML (SmolLM2, Qwen2, Qwen2.5, Qwen3) and Harmony (gpt-oss) are built in and can be chosen
// by name.
#ifndef KDLIB_TEXT_CHAT_TEMPLATE_HPP
#define KDLIB_TEXT_CHAT_TEMPLATE_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/chat_mask.hpp"
#include "kdlib/text/chat_message.hpp"
#include "kdlib/text/chat_options.hpp"
#include "kdlib/text/jinja.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
class JinjaChat;
}

/// The ids of a conversation. loss_mask[i] is 1 if token i is a token that the model should write. In a TokenBatch this
/// is weight i - 1, since the weight of a token belongs to the prediction of the next one.
struct ChatIds {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> loss_mask;
};

/// Writes conversations in the form that a model expects, and finds the parts that the assistant wrote.
class ChatTemplate {
 public:
  /// A turn of ChatML is `<|im_start|>role\ncontent<|im_end|>\n`. The flavours of ChatML differ in system turn, tools
  /// and thoughts.
  enum class Flavour {
    chatml,   // any role; optionally a default system turn (SmolLM2, Qwen2)
    qwen2_5,  // a default system turn and tools
    qwen3,    // tools and thoughts; thoughts of earlier turns are left out
    harmony,  // the format of gpt-oss, as openai-harmony writes it, with other tokens than ChatML (harmony.hpp)
    jinja     // a Jinja template of a file
  };

  /// Plain ChatML, by default without a system turn of its own; `--template chatml` chooses it.
  static ChatTemplate chatml(std::string default_system = {});
  static ChatTemplate smollm2();
  static ChatTemplate qwen2_5();
  static ChatTemplate qwen3();
  static ChatTemplate harmony();

  /// A Jinja template. `tokens` are the variables bos_token, eos_token and so on with the texts of these tokens.
  /// `named` are further templates that are chosen by name ("tool_use" if tools are given).
  static ChatTemplate jinja(JinjaTemplate standard, std::vector<std::pair<std::string, std::string>> tokens = {},
                            std::vector<std::pair<std::string, JinjaTemplate>> named = {});
  /// The template of the tokenizer's files. ConfigError: the files have no template. JinjaError: the template cannot be
  /// read.
  static ChatTemplate of(const Tokenizer& tokenizer);
  /// The template that a program's --template names: see chat_template_from.
  static ChatTemplate from_name(std::string_view name, const Tokenizer& tokenizer);

  /// Returns the conversation as text. InputError: there are no messages; or, for built-in flavours, the flavour has no
  /// place for tools, tool calls or reasoning, Harmony cannot write a JSON schema, or a role does not exist in the
  /// flavour. JinjaError: the template refuses the conversation or needs something that is not given.
  std::string render(std::span<const ChatMessage> messages, const RenderOptions& options = {}) const;

  /// Returns the conversation as ids. Tokens that the template writes become ids. `content` says how special tokens in
  /// contents are read: by default they are plain text, so that no content can close its turn. SpecialTokens::parse
  /// gives the ids of the text of render(). InputError as in render(); also if the tokenizer lacks <|im_start|> or
  /// <|im_end|>, or the tokens of Harmony, or if a Jinja template does more with special tokens in contents than to
  /// print them.
  std::vector<std::int32_t> ids(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                const RenderOptions& options = {},
                                SpecialTokens content = SpecialTokens::special_text) const;

  /// Returns the ids with a mask of the tokens that the assistant wrote. No token of a generation prompt counts. For
  /// Jinja templates docs/formats.md says how these parts are found. InputError, naming turn and template: a part
  /// cannot be found.
  ChatIds render_ids(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                     const RenderOptions& options = {}, ChatMask mask = {},
                     SpecialTokens content = SpecialTokens::special_text) const;

  /// Returns the index of the first message that the template silently leaves out. Only messages are considered whose
  /// content is one text and whose role is not system, user, assistant or tool. Errors as in render().
  std::optional<std::size_t> unwritten(std::span<const ChatMessage> messages, const RenderOptions& options = {}) const;

  Flavour flavour() const { return flavour_; }
  const std::string& default_system() const { return default_system_; }  // empty: there is no default system turn
  const detail::JinjaChat* jinja_chat() const { return jinja_.get(); }   // nullptr for flavours other than jinja
  /// Returns false if the template never reads `name` ("tools", "tool_calls"), so that tools or tool calls would
  /// silently be left out.
  bool reads(std::string_view name) const;

 private:
  ChatTemplate(Flavour flavour, std::string default_system)
      : flavour_(flavour), default_system_(std::move(default_system)) {}
  Flavour flavour_;
  std::string default_system_;
  std::shared_ptr<const detail::JinjaChat> jinja_;
};

/// Returns the template that --template NAME|FILE names. An empty text stands for the template of the tokenizer's
/// files. The names chatml, smollm2, qwen2.5, qwen3 and harmony (for which the tokenizer must have Harmony's tokens)
/// are built in. Any other text is the name of a template in the tokenizer's files, or a file with a Jinja template.
/// ConfigError, with all known names: there is no such template.
ChatTemplate chat_template_from(std::string_view name_or_file, const Tokenizer& tokenizer);

/// Returns the loss mask of ChatML ids, found from the ids alone. The mask is 1 from behind each
/// `<|im_start|>assistant\n` to its <|im_end|>, or to the end of the ids if the turn is cut off. A token that contains
/// the newline of the header and more counts as header. InputError: the tokenizer lacks the tokens of ChatML.
std::vector<std::uint8_t> chatml_loss_mask(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                           ChatMask mask = {});

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/chat_template_inl.hpp"
#endif

#endif
