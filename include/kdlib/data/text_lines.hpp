// SPDX-License-Identifier: Apache-2.0
// Turns lines of prompt and data files (JSON Lines) into token ids: text to train on, to continue or to evaluate on.
#ifndef KDLIB_DATA_TEXT_LINES_HPP
#define KDLIB_DATA_TEXT_LINES_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/io/json.hpp"
#include "kdlib/tensor/token_batch.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

class ChatTemplate;
struct PromptChat;
struct RenderOptions;

/// The kind of a line. One line is one JSON object of one of these forms:
///   {"prompt": "..."}                        a prompt: one user turn (TextSettings::chat) or text to continue
///   {"messages": [...]}                      a prompt, or given text where the last turn is the assistant's; may have
///                                            "tools", "documents" and "chat_template_kwargs" (variables of the
///                                            template)
///   {"prompt_ids": [1, 2, ...]}              a prompt in ids
///   {"text": "..."}                          given text; every token after the first counts
///   {"ids": [...], "loss_mask": [0, 1, ...]} given text in ids; loss_mask[i] says whether token i counts (was to be
///                                            written by the model); without it every token after the first counts.
///                                            "spans": [0, 0, 1, ...] numbers the span of each token
///                                            (RunSettings::spans), -1 for none
/// A line of any form may name its teacher by "teacher" if TextSettings::teachers is set.
enum class TextLineKind : std::uint8_t { prompt, given_text };

/// What happens to a line that is longer than TextSettings::context_length. Every program and source has the same rule.
enum class TooLong : std::uint8_t {
  refuse,  // InputError that names the line and both lengths
  cut,     // given text keeps its first tokens, or is left out if none of them counts; prompts: as refuse
  drop     // the line is left out
};

/// Returns the rule of the word "refuse", "cut" or "drop". ConfigError: another word.
TooLong too_long_rule(std::string_view word);

/// What was done with the lines of a file. A program should tell the user if `cut` or `dropped` is not 0.
struct TextCounts {
  std::int64_t lines = 0;    // lines in the file
  std::int64_t cut = 0;      // given texts that lost their end
  std::int64_t dropped = 0;  // lines that were left out
  std::int64_t longest = 0;  // tokens of the longest line before cutting
  bool turns = false;        // the chat template was used for at least one line

  /// Returns a text such as "d.jsonl: of 40 lines, those longer than 256 tokens were 3 cut, 1 left out (the longest has
  /// 300)", or an empty text if nothing was cut or left out. `limit` is in tokens.
  std::string note(const std::string& path, std::int64_t limit) const;
};

/// How lines become ids.
struct TextSettings {
  bool chat = true;  // true: {"prompt"} is a user turn of the chat template; false: plain text to continue
  bool add_default_system = false;   // add the template's default system turn if a conversation has none
  std::vector<std::string> tools{};  // tools as JSON texts, for lines that have no "tools"
  bool keep_chats = false;           // fill TextLine::chat for prompts that are conversations (for ToolTurns)
  std::string chat_template{};       // name or file for chat_template_from(); empty: the tokenizer's own
  std::int64_t context_length =
      0;  // largest number of tokens of prompt and answer together, or of a given text; 0: not checked here
  TooLong too_long = TooLong::refuse;
  bool needs_rows = true;       // refuse given text without a token that counts
  bool teachers = false;        // lines may have a "teacher", such as "math", which TeacherNames reads
  std::int64_t vocabulary = 0;  // number of ids of the model; 0: the tokenizer's (no check without a tokenizer)
};

/// One line of a text file as token ids.
struct TextLine {
  TextLineKind kind = TextLineKind::prompt;
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> mask;            // given text: 1 if token i counts, else 0; empty for a prompt
  std::string source;                        // the place, such as "prompts.jsonl:12"
  std::vector<std::int32_t> spans{};         // given text as ids: span of token i, -1: none; empty: not given
  std::shared_ptr<const PromptChat> chat{};  // prompts, with keep_chats: the conversation
};

/// Turns lines into token ids. Each error names file and line and says what to do. FormatError: broken JSON, unknown or
/// missing keys, or wrong types. InputError: an empty prompt, ids outside the vocabulary, text longer than the context,
/// or text without a token that counts. The chat template is parsed once. A reader must be used by one thread only.
class TextLineReader {
 public:
  /// `tokenizer` is borrowed and may be nullptr. Without a tokenizer only lines of ids can be read; other lines throw
  /// ConfigError.
  TextLineReader(std::string path, const Tokenizer* tokenizer, TextSettings settings = {});

  /// The largest length of a line of a text file, in bytes. The limit is far beyond every context and bounds the memory
  /// that a broken file could take.
  static constexpr std::size_t max_line_bytes = std::size_t{16} << 20;

  /// Returns all lines that the rule for long lines keeps. `counts` receives what was done. InputError: no line is
  /// left.
  std::vector<TextLine> read_all(TextCounts* counts = nullptr) const;

  /// Returns the line of one JSON object; `source` is its place in messages. Unless the rule for long lines is
  /// `refuse`, the caller must apply the rule by fit_length().
  TextLine line(const Json& object, const std::string& source) const;

 private:
  TextLine read_form(const Json& object, const std::string& source) const;
  TextLine prompt_text(const Json& value, const std::string& source) const;
  TextLine conversation(const Json& object, const std::string& source) const;
  const ChatTemplate& chat(const Tokenizer& tokenizer) const;
  void add_tools(RenderOptions& options, const std::string& source) const;
  TextLine given_text(const Json& value, const std::string& source) const;
  TextLine given_ids(const Json& object, const std::string& source) const;
  const Tokenizer& tokenizer(const std::string& source, const char* key) const;
  void check(const TextLine& line) const;

  std::string path_;
  const Tokenizer* tokenizer_;
  TextSettings settings_;
  mutable std::shared_ptr<const ChatTemplate> chat_;  // made when the first line needs it
};

/// Returns all lines of a file, prompts and given text alike, as for validation files.
std::vector<TextLine> read_text_lines(const std::string& path, const Tokenizer* tokenizer,
                                      const TextSettings& settings = {}, TextCounts* counts = nullptr);

/// SettingsError: a chat template was named (`chat_template` is not empty), but no line used it (`turns` is false).
/// `paths` names the files that were read.
void check_template_is_read(const std::string& program, const std::string& chat_template, bool turns,
                            const std::string& paths);

/// Reads given text as documents with their row weights. InputError: a line is a prompt; the message names the line.
TokenBatch read_documents(const std::string& path, const Tokenizer* tokenizer, const TextSettings& settings = {},
                          TextCounts* counts = nullptr);

/// Applies the rule for long lines to one line and counts what was done. A given text may have `limit` tokens; a prompt
/// must have fewer, so that an answer fits; 0: no limit. Returns false if the line is to be left out. InputError: the
/// line is too long and the rule refuses it.
bool fit_length(TextLine& line, std::int64_t limit, TooLong rule, TextCounts& counts);

/// Appends a line of given text to a batch. InputError: the line is a prompt.
void append_line(TokenBatch& batch, const TextLine& line);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/text_lines_inl.hpp"
#endif

#endif
