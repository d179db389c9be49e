// SPDX-License-Identifier: Apache-2.0
// Chat templates: conversations as text and as ids with a loss mask. Templates of files are Jinja and are run as they
// are; ChatML (SmolLM2, Qwen2, Qwen2.5, Qwen3) and Harmony (gpt-oss) can be asked for by name.
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

/// Ids of a conversation. loss_mask[i] is 1 when token i counts as something the model should have written (weight i -
/// 1 of a TokenBatch).
struct ChatIds {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> loss_mask;
};

/// Renders conversations as the tokenizer's model expects them, and finds what the assistant wrote.
class ChatTemplate {
 public:
  /// The turns of ChatML are `<|im_start|>role\ncontent<|im_end|>\n`; its flavours differ in the rest.
  enum class Flavour {
    chatml,   // any role; perhaps a default system turn (SmolLM2, Qwen2)
    qwen2_5,  // default system turn, tools
    qwen3,    // tools and thoughts; thoughts of earlier turns are left out
    harmony,  // gpt-oss, as openai-harmony writes it; its own tokens, see harmony.hpp
    jinja     // a template of a file
  };

  /// Plain ChatML without a default system turn: what `--template chatml` means.
  static ChatTemplate chatml(std::string default_system = {});
  static ChatTemplate smollm2();
  static ChatTemplate qwen2_5();
  static ChatTemplate qwen3();
  static ChatTemplate harmony();

  /// A Jinja template. `tokens` are the variables bos_token, eos_token and so on with the texts of these tokens;
  /// `named` are chosen by name ("tool_use" where tools are given).
  static ChatTemplate jinja(JinjaTemplate standard, std::vector<std::pair<std::string, std::string>> tokens = {},
                            std::vector<std::pair<std::string, JinjaTemplate>> named = {});
  /// The template of the tokenizer's files. ConfigError if they have none, JinjaError if it cannot be read.
  static ChatTemplate of(const Tokenizer& tokenizer);
  /// From a program's --template: see chat_template_from.
  static ChatTemplate from_name(std::string_view name, const Tokenizer& tokenizer);

  /// The conversation as text. InputError: no messages; for templates that are not Jinja tools, tool calls or reasoning
  /// which the flavour has no place for, a JSON schema that Harmony cannot write, a role that it does not have.
  /// JinjaError: the template refuses or needs what is not given.
  std::string render(std::span<const ChatMessage> messages, const RenderOptions& options = {}) const;

  /// The conversation as ids. The template's own tokens are ids; in contents `content` decides: by default special
  /// tokens there are text, so that no content can close its turn. SpecialTokens::parse gives the ids of render()'s
  /// text. InputError as render(), and when the tokenizer lacks <|im_start|> or <|im_end|>, or Harmony's tokens, or
  /// when a Jinja template does something with special tokens in contents other than to print them.
  std::vector<std::int32_t> ids(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                const RenderOptions& options = {},
                                SpecialTokens content = SpecialTokens::special_text) const;

  /// The same with a mask of what the assistant wrote; nothing of a generation prompt counts. For Jinja templates the
  /// parts are found as docs/formats.md says: InputError naming turn and template where they cannot be.
  ChatIds render_ids(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                     const RenderOptions& options = {}, ChatMask mask = {},
                     SpecialTokens content = SpecialTokens::special_text) const;

  /// The first message that would vanish without a word: it has a role other than system, user, assistant and tool, a
  /// content that is one text, and the template writes nothing of it. Errors as render().
  std::optional<std::size_t> unwritten(std::span<const ChatMessage> messages, const RenderOptions& options = {}) const;

  Flavour flavour() const { return flavour_; }
  const std::string& default_system() const { return default_system_; }  // empty: none
  const detail::JinjaChat* jinja_chat() const { return jinja_.get(); }   // nullptr for other flavours
  /// False where tools (or tool calls) would vanish without a word because the template never reads them.
  bool reads(std::string_view name) const;

 private:
  ChatTemplate(Flavour flavour, std::string default_system)
      : flavour_(flavour), default_system_(std::move(default_system)) {}
  Flavour flavour_;
  std::string default_system_;
  std::shared_ptr<const detail::JinjaChat> jinja_;
};

/// What --template NAME|FILE means: "" is the template of the tokenizer's files; chatml, smollm2, qwen2.5, qwen3 and
/// harmony (whose tokens the tokenizer must have) are built in; a name of a template in the tokenizer's files; or a
/// file with a Jinja template. ConfigError, with all names, for anything else.
ChatTemplate chat_template_from(std::string_view name_or_file, const Tokenizer& tokenizer);

/// Loss mask of ChatML ids, found in the ids alone: from behind each `<|im_start|>assistant\n` to its <|im_end|>, or to
/// the end of the ids when the turn is cut. A token that holds the header's newline and more counts as header.
/// InputError: no ChatML tokens.
std::vector<std::uint8_t> chatml_loss_mask(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                           ChatMask mask = {});

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/chat_template_inl.hpp"
#endif

#endif
