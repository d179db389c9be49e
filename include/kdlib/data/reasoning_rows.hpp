// SPDX-License-Identifier: Apache-2.0
// Turns rows of a question, a thought and an answer (PleIAs/SYNTH) into documents: token ids, which tokens count, and
// whether a token belongs to the thought or to the answer.
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

/// One row of the data set. A field that is missing or null is empty.
struct ReasoningRow {
  std::string key;  // synth_id
  std::string language, exercise, constraints;
  std::string query, reasoning, answer;
};

/// Reads the members synth_id, language, exercise, constraints, query, synthetic_reasoning and synthetic_answer of an
/// object; other members are not read. FormatError: the value is no object, or one of these members is neither a string
/// nor null.
ReasoningRow reasoning_row_from_json(const Json& object);

/// Why a row gives no document. The reasons are tested in this order.
enum class RowSkip : std::uint8_t {
  none,
  no_id,            // no synth_id
  not_utf8,         // the line or a field is not UTF-8
  empty_query,      // the query is nothing but white space
  empty_reasoning,  // the same of the thought
  empty_answer,     // the same of the answer
  filtered,         // language or exercise is not asked for, or the constraints failed
  invalid,          // the document breaks the rules of its form (check_harmony, or one <think>...</think>)
  too_long          // more tokens than max_length, and cutting is not allowed or not enough
};
constexpr std::array<const char*, 9> enum_names(RowSkip) {
  return {"none",         "no_id",    "not_utf8", "empty_query", "empty_reasoning",
          "empty_answer", "filtered", "invalid",  "too_long"};
}

/// What happens to a document of more than max_length tokens.
enum class LongRow : std::uint8_t {
  cut,  // the thought loses tokens at its beginning, then the question does; the answer stays whole
  drop
};
constexpr std::array<const char*, 2> enum_names(LongRow) { return {"cut", "drop"}; }

/// How rows are written as documents. The settings do not change during a run: equal settings give equal ids on any
/// day.
struct RowSettings {
  std::int64_t max_length = 2048;  // tokens of a document without the end-of-document token
  LongRow too_long = LongRow::cut;
  std::string effort{};           // low, medium, high or by-length; empty: medium for Harmony, no effort for templates
  std::int64_t low_below = 0;     // by-length: effort low if the thought has fewer tokens than this,
  std::int64_t medium_below = 0;  // else medium if it has fewer than this, else high
  std::string identity{}, cutoff{}, date{};  // of Harmony's system message; empty: default (no date)
  std::string instructions{};                // of Harmony's developer message or a template's system turn
  std::string chat_template{};               // empty: Harmony; else the name for chat_template_from()
  bool content_spans = false;                // Harmony: true: spans hold only contents, no headers or terminators
  std::vector<std::string> languages{}, exercises{};  // that are kept; empty: all

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

/// A row written as a document. `loss` and `span` are token-aligned: entry t describes token t itself.
struct RowDocument {
  std::vector<std::int32_t> ids;          // without the end-of-document token
  std::vector<std::uint8_t> loss, span;   // [ids]; loss 1: the token counts; span 1: thought, 2: answer, 0: neither
  std::int64_t prompt = 0;                // tokens before the assistant's first message (template: its text)
  std::int64_t reasoning = 0, final = 0;  // tokens of thought and answer in the document
  std::string effort{};                   // low, medium, high; empty: the document names none
  std::int64_t effort_at = -1;            // place of the effort's token; -1: none
  bool truncated = false;                 // something was cut
};

/// Returns a mask in the form of token files: label-aligned, so that entry t describes token t + 1. The result is one
/// entry longer, for the end-of-document token, which does not count.
std::vector<std::uint8_t> label_aligned(const std::vector<std::uint8_t>& mask);

namespace detail {
/// The places of the parts of an assistant's text "<think> thought </think> answer", in bytes.
struct ThoughtPlace {
  std::size_t begin = 0, end = 0;  // of the thought, between <think> and </think>
  std::size_t answer = 0;          // the first byte after </think>
};
/// Returns the places, or nothing if the text does not have this form: at most one <think> (none if the prompt ends
/// with <think>) with only white space before it, exactly one </think>, and more than white space both as thought and
/// as answer.
std::optional<ThoughtPlace> find_thought(std::string_view text);
}  // namespace detail

/// Writes rows as documents. Several threads may call render() at once.
class RowRenderer {
 public:
  /// SettingsError: a setting is out of its range. ConfigError: the words low, medium and high of the effort are not
  /// one token each at the same place, or the tokenizer has no token that ends documents. InputError: no template is
  /// named, and the tokenizer lacks the tokens of Harmony.
  RowRenderer(const Tokenizer& tokenizer, RowSettings settings);

  /// Fills `document`, or returns why the row gives no document.
  RowSkip render(const ReasoningRow& row, RowDocument& document) const;

  /// Returns the token that ends each document in token files: <|endoftext|>, or else the tokenizer's eos token.
  std::int32_t end_of_document() const { return end_of_document_; }
  const RowSettings& settings() const { return settings_; }
  /// Returns the ids of the words low, medium and high at RowDocument::effort_at. Empty if documents name no effort.
  const std::vector<std::int32_t>& effort_ids() const { return effort_ids_; }

 private:
  struct Parts;  // the places of a document's contents
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
