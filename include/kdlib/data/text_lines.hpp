// SPDX-License-Identifier: Apache-2.0
// Lines of prompt and data files (JSON Lines) as ids: what a user gives to train on, to continue or to be judged by.
#ifndef KDLIB_DATA_TEXT_LINES_HPP
#define KDLIB_DATA_TEXT_LINES_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kdlib/io/json.hpp"
#include "kdlib/tensor/token_batch.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

class ChatTemplate;

/// One line is one JSON object of one of these forms:
///   {"prompt": "..."}                        a prompt; one user turn (TextSettings::chat) or text to continue
///   {"messages": [...]}                      a prompt, or given text where the last turn is the assistant's; may have
///                                            "tools", "documents" and "chat_template_kwargs" (variables of the
///                                            template)
///   {"prompt_ids": [1, 2, ...]}              a prompt in ids
///   {"text": "..."}                          given text; every token after the first counts
///   {"ids": [...], "loss_mask": [0, 1, ...]} given text in ids; loss_mask[i] says whether token i counts (was to be
///   written by the model);
///                                            without it every token after the first counts. "spans": [0, 0, 1, ...]
///                                            numbers the span of each token (RunSettings::spans), -1 for none
enum class TextLineKind : std::uint8_t { prompt, given_text };

struct TextSettings {
  bool chat = true;  // {"prompt"} becomes a user turn of the chat template; false: plain text to continue
  bool add_default_system = false;  // the template's own system turn where a conversation has none
  std::string chat_template{};      // name or file for chat_template_from; empty: the tokenizer's own
  std::int64_t context_length =
      0;  // tokens that prompt and answer, or a given text, may have together; 0: not checked here
  bool cut_longer_text = false;  // given text longer than the context loses its end; false: it is refused
  bool needs_rows = true;        // given text without a token that counts is refused
  std::int64_t vocabulary = 0;   // ids of the model; 0: the tokenizer's, unchecked without one
};

struct TextLine {
  TextLineKind kind = TextLineKind::prompt;
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> mask;     // given text: 1 where token i counts; empty for a prompt
  std::string source;                 // "prompts.jsonl:12"
  std::vector<std::int32_t> spans{};  // given text in ids: span of token i; empty: not given
};

/// Turns lines into ids. Each error names file and line and says what to do: FormatError for broken JSON, unknown or
/// missing keys and wrong types; InputError for empty prompts, ids outside the vocabulary, text longer than the
/// context, text without a token that counts. The template is parsed once; one reader is for one thread.
class TextLineReader {
 public:
  /// `tokenizer` is borrowed and may be nullptr: then only lines of ids can be read (ConfigError for others).
  TextLineReader(std::string path, const Tokenizer* tokenizer, TextSettings settings = {});

  /// All lines; InputError when there is none.
  std::vector<TextLine> read_all() const;

  /// The line of one JSON object; `source` is its place.
  TextLine line(const Json& object, const std::string& source) const;

 private:
  TextLine read_form(const Json& object, const std::string& source) const;
  TextLine prompt_text(const Json& value, const std::string& source) const;
  TextLine conversation(const Json& object, const std::string& source) const;
  const ChatTemplate& chat(const Tokenizer& tokenizer) const;
  TextLine given_text(const Json& value, const std::string& source) const;
  TextLine given_ids(const Json& object, const std::string& source) const;
  const Tokenizer& tokenizer(const std::string& source, const char* key) const;
  void check(TextLine& line) const;

  std::string path_;
  const Tokenizer* tokenizer_;
  TextSettings settings_;
  mutable std::shared_ptr<const ChatTemplate> chat_;  // made when the first line needs it
};

/// All lines of a file, prompts and given text alike (validation files).
std::vector<TextLine> read_text_lines(const std::string& path, const Tokenizer* tokenizer,
                                      const TextSettings& settings = {});

/// Given text as documents with their row weights. InputError naming the line that is a prompt.
TokenBatch read_documents(const std::string& path, const Tokenizer* tokenizer, const TextSettings& settings = {});

/// Adds a line of given text to a batch.
void append_line(TokenBatch& batch, const TextLine& line);

KDLIB_NAMESPACE_END

#include "kdlib/data/text_lines_inl.hpp"

#endif
