// SPDX-License-Identifier: Apache-2.0
// Rows of a question, a thought and an answer (PleIAs/SYNTH) as one document each: ids, what counts, and which span of
// the answer a token is in.
#ifndef KDLIB_DATA_REASONING_ROWS_HPP
#define KDLIB_DATA_REASONING_ROWS_HPP

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/text/chat_template.hpp"
#include "kdlib/text/harmony.hpp"

KDLIB_NAMESPACE_BEGIN

/// One row. A field that is missing or null is empty.
struct ReasoningRow {
  std::string key;  // synth_id
  std::string language, exercise, constraints;
  std::string query, reasoning, answer;
};

/// The columns synth_id, language, exercise, constraints, query, synthetic_reasoning and synthetic_answer of an object;
/// others are not read. FormatError: no object, or one of these is neither a string nor null.
ReasoningRow reasoning_row_from_json(const Json& object);

/// Why a row gives no document, in the order in which the reasons are looked for.
enum class RowSkip : std::uint8_t {
  none,
  no_id,            // no synth_id
  not_utf8,         // the line or a field is not UTF-8
  empty_query,      // nothing but white space
  empty_reasoning,  //
  empty_answer,     //
  filtered,         // another language or exercise than asked for, or its constraints failed
  invalid,          // the document breaks the rules of its form (check_harmony, or one <think>...</think>)
  too_long          // more tokens than max_length, and nothing may or can be cut
};
constexpr std::array<const char*, 9> enum_names(RowSkip) {
  return {"none",         "no_id",    "not_utf8", "empty_query", "empty_reasoning",
          "empty_answer", "filtered", "invalid",  "too_long"};
}

/// What becomes of a document of more than max_length tokens.
enum class LongRow : std::uint8_t {
  cut,  // the thought loses tokens at its beginning, then the question; the answer stays whole
  drop
};
constexpr std::array<const char*, 2> enum_names(LongRow) { return {"cut", "drop"}; }

/// How rows are written out. The settings are constants of a run: equal settings give equal ids on any day.
struct RowSettings {
  std::int64_t max_length = 2048;  // tokens of a document without the end-of-document token
  LongRow too_long = LongRow::cut;
  std::string effort{};           // low, medium, high or by-length; empty: medium for Harmony, none for templates
  std::int64_t low_below = 0;     // by-length: a thought of fewer tokens is low,
  std::int64_t medium_below = 0;  // of fewer than this is medium, else high
  std::string identity{}, cutoff{}, date{};  // of Harmony's system message; empty: its default (the date: left out)
  std::string instructions{};                // of the developer message; of a template's system turn
  std::string chat_template{};               // empty: Harmony; else chat_template_from
  bool content_spans = false;                // Harmony: spans hold contents alone, without headers and terminators
  std::vector<std::string> languages{}, exercises{};  // empty: all

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"max_length", "tokens", ">= 16", "of a document"}, self.max_length);
    f(FieldInfo{"too_long", "", "cut, drop", "what becomes of longer documents"}, self.too_long);
    f(FieldInfo{"effort", "", "low, medium, high, by-length", "word of the system message"}, self.effort);
    f(FieldInfo{"low_below", "tokens", ">= 0", "by-length: shorter thoughts are low"}, self.low_below);
    f(FieldInfo{"medium_below", "tokens", ">= 0", "by-length: shorter thoughts are medium"}, self.medium_below);
    f(FieldInfo{"identity", "", "", "of the system message"}, self.identity);
    f(FieldInfo{"cutoff", "", "", "of the system message"}, self.cutoff);
    f(FieldInfo{"date", "", "", "of the system message"}, self.date);
    f(FieldInfo{"instructions", "", "", "of the developer"}, self.instructions);
    f(FieldInfo{"chat_template", "", "", "empty: Harmony"}, self.chat_template);
    f(FieldInfo{"content_spans", "", "", "spans hold contents alone"}, self.content_spans);
  }
};

/// A row written out. `loss` and `span` are token-aligned: they speak of the token itself.
struct RowDocument {
  std::vector<std::int32_t> ids;         // without the end-of-document token
  std::vector<std::uint8_t> loss, span;  // [ids]; span 1: thought, 2: answer, 0: neither
  std::int64_t prompt = 0;               // tokens before the assistant's first message (of a template: before its text)
  std::int64_t reasoning = 0, final = 0;  // tokens of the two contents, as they are in the document
  std::string effort{};                   // low, medium, high; empty: the document names none
  std::int64_t effort_at = -1;            // place of the effort's token
  bool truncated = false;                 // something was cut
};

/// The masks as token files hold them (label-aligned: mask[t] speaks of token t + 1), for a document with one token
/// more behind it that does not count.
std::vector<std::uint8_t> label_aligned(const std::vector<std::uint8_t>& mask);

namespace detail {
/// Where an assistant's text "<think> thought </think> answer" has its parts, in bytes.
struct ThoughtPlace {
  std::size_t begin = 0, end = 0;  // of the thought, between the two words
  std::size_t answer = 0;          // behind </think>
};
/// Empty where the text does not have this form: one <think> with nothing but white space before it (or none: the
/// prompt has it), one </think>, and more than white space before and behind that.
std::optional<ThoughtPlace> find_thought(std::string_view text);
}  // namespace detail

/// Writes rows out. May be called from several threads at once.
class RowRenderer {
 public:
  /// SettingsError for settings out of range. ConfigError for an effort whose three words are not one token each at one
  /// place; InputError for a tokenizer without Harmony's tokens, where no template is named.
  RowRenderer(const Tokenizer& tokenizer, RowSettings settings);

  /// Fills `document`, or says why there is none.
  RowSkip render(const ReasoningRow& row, RowDocument& document) const;

  /// The token behind each document in files: <|endoftext|>, else the tokenizer's eos.
  std::int32_t end_of_document() const { return end_of_document_; }
  const RowSettings& settings() const { return settings_; }
  /// Ids of the words low, medium and high at effort_at; empty where documents name none.
  const std::vector<std::int32_t>& effort_ids() const { return effort_ids_; }

 private:
  struct Parts;  // where the contents of a document are
  void set_up_harmony();
  void set_up_template();
  void find_effort(const std::array<std::vector<std::int32_t>, 3>& prefixes);
  Parts write_harmony(const ReasoningRow& row, RowDocument& out) const;
  bool write_template(const ReasoningRow& row, RowDocument& out, Parts& parts) const;
  std::vector<ChatMessage> messages(const ReasoningRow& row, std::string_view effort) const;
  bool fits_filters(const ReasoningRow& row) const;
  bool is_valid(const RowDocument& document) const;
  bool cut(RowDocument& document, Parts& parts) const;
  void choose_effort(RowDocument& document, std::int64_t reasoning) const;

  Tokenizer tokenizer_;
  RowSettings settings_;
  std::optional<ChatTemplate> template_{};  // empty: Harmony
  std::vector<std::int32_t> prefix_{}, user_{}, analysis_{}, final_{}, effort_ids_{};
  std::int64_t effort_at_ = -1;
  std::int32_t end_of_document_ = -1, end_ = -1, return_ = -1;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/reasoning_rows_inl.hpp"
#endif

#endif
