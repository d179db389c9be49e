// SPDX-License-Identifier: Apache-2.0
// Lines of prompt and data files (JSON Lines) as ids: what a user gives to train on, to continue or to be judged by.
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

/// One line is one JSON object of one of these forms:
///   {"prompt": "..."}                        a prompt; one user turn (TextSettings::chat) or text to continue
///   {"messages": [...]}                      a prompt, or given text where the last turn is the assistant's; may have
///                                            "tools", "documents" and "chat_template_kwargs" (variables of the
///                                            template)
///   {"prompt_ids": [1, 2, ...]}              a prompt in ids
///   {"text": "..."}                          given text; every token after the first counts
///   {"ids": [...], "loss_mask": [0, 1, ...]} given text in ids; loss_mask[i] says whether token i counts (was to be
///                                            written by the model); without it every token after the first counts.
///                                            "spans": [0, 0, 1, ...] numbers the span of each token
///                                            (RunSettings::spans), -1 for none
/// Each may have "teacher", its one of several, where TextSettings::teachers allows it.
enum class TextLineKind : std::uint8_t { prompt, given_text };

/// What becomes of a line that is longer than TextSettings::context_length: one rule for every program and source.
enum class TooLong : std::uint8_t {
  refuse,  // InputError that names the line and both lengths
  cut,     // of given text the first tokens stay; where none of them counts the text is left out. Prompts: as refuse
  drop     // the line is left out
};

/// "refuse", "cut" or "drop"; ConfigError for another word.
TooLong too_long_rule(std::string_view word);

/// What was done with the lines of a file. A program says so where `cut` or `dropped` is not 0.
struct TextCounts {
  std::int64_t lines = 0;    // in the file
  std::int64_t cut = 0;      // given texts that lost their end
  std::int64_t dropped = 0;  // lines that were left out
  std::int64_t longest = 0;  // tokens of the longest line, before anything was done
  bool turns = false;        // the chat template wrote a line at least

  /// "3 of 40 texts of d.jsonl are longer than 256 tokens and were cut, 1 was left out (the longest has 300)", or an
  /// empty text where nothing was done.
  std::string note(const std::string& path, std::int64_t limit) const;
};

/// How lines become ids.
struct TextSettings {
  bool chat = true;  // {"prompt"} becomes a user turn of the chat template; false: plain text to continue
  bool add_default_system = false;   // the template's own system turn where a conversation has none
  std::vector<std::string> tools{};  // one JSON text each: what templates are told where a line has no "tools"
  bool keep_chats = false;           // TextLine::chat of prompts that are conversations, for ToolTurns
  std::string chat_template{};       // name or file for chat_template_from; empty: the tokenizer's own
  std::int64_t context_length =
      0;  // tokens that prompt and answer, or a given text, may have together; 0: not checked here
  TooLong too_long = TooLong::refuse;
  bool needs_rows = true;       // given text without a token that counts is refused
  bool teachers = false;        // lines may have "teacher": "math", which TeacherNames reads
  std::int64_t vocabulary = 0;  // ids of the model; 0: the tokenizer's, unchecked without one
};

/// One line of a text file in ids.
struct TextLine {
  TextLineKind kind = TextLineKind::prompt;
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> mask;            // given text: 1 where token i counts; empty for a prompt
  std::string source;                        // "prompts.jsonl:12"
  std::vector<std::int32_t> spans{};         // given text in ids: span of token i; empty: not given
  std::shared_ptr<const PromptChat> chat{};  // prompts: what they were rendered from, if it was asked for
};

/// Turns lines into ids. Each error names file and line and says what to do: FormatError for broken JSON, unknown or
/// missing keys and wrong types; InputError for empty prompts, ids outside the vocabulary, text longer than the
/// context, text without a token that counts. The template is parsed once; one reader is for one thread.
class TextLineReader {
 public:
  /// `tokenizer` is borrowed and may be nullptr: then only lines of ids can be read (ConfigError for others).
  TextLineReader(std::string path, const Tokenizer* tokenizer, TextSettings settings = {});

  /// The longest line of a file of text, in bytes: far beyond every context, and what a broken file could cost in
  /// memory.
  static constexpr std::size_t max_line_bytes = std::size_t{16} << 20;

  /// All lines that the rule for long ones leaves; InputError when there is none. `counts` receives what was done.
  std::vector<TextLine> read_all(TextCounts* counts = nullptr) const;

  /// The line of one JSON object; `source` is its place. Where the rule for long lines is not `refuse`, its length is
  /// the caller's to fit (fit_length).
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

/// All lines of a file, prompts and given text alike (validation files).
std::vector<TextLine> read_text_lines(const std::string& path, const Tokenizer* tokenizer,
                                      const TextSettings& settings = {}, TextCounts* counts = nullptr);

/// SettingsError where a chat template was named (`chat_template`) and no line has `turns` for it; `paths` are what was
/// read.
void check_template_is_read(const std::string& program, const std::string& chat_template, bool turns,
                            const std::string& paths);

/// Given text as documents with their row weights. InputError naming the line that is a prompt.
TokenBatch read_documents(const std::string& path, const Tokenizer* tokenizer, const TextSettings& settings = {},
                          TextCounts* counts = nullptr);

/// Applies the rule for long lines to one line of `limit` tokens at most (a prompt: fewer, so that an answer fits; 0:
/// no limit) and counts what it did. False: the line is to be left out. InputError as the rule says.
bool fit_length(TextLine& line, std::int64_t limit, TooLong rule, TextCounts& counts);

/// Adds a line of given text to a batch.
void append_line(TokenBatch& batch, const TextLine& line);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/text_lines_inl.hpp"
#endif

#endif
