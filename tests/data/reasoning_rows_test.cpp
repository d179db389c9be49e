// SPDX-License-Identifier: Apache-2.0
// Rows of a question, a thought and an answer as ids and masks. Expected ids and masks: openai-harmony 0.0.8 for the
// row of `arithmetic()` (tests/reference/text/README.md); digests: Python's hashlib.
#include <algorithm>

#include "data/cut_tokenizers.hpp"
#include "kdlib/data/reasoning_rows.hpp"
#include "kdlib/data/token_files.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/blake2b.hpp"
#include "kdlib/rollout/rollout_prompts.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

ReasoningRow arithmetic() { return {"synth_0", "en", "math", "", "What is 2 + 2?", "Add the numbers.", "4"}; }

RowDocument rendered(const RowRenderer& renderer, const ReasoningRow& row) {
  RowDocument document;
  REQUIRE(renderer.render(row, document) == RowSkip::none);
  return document;
}

}  // namespace

TEST_CASE("blake2b64 and shares are those of Python's hashlib and exact decimals", "[data][token_files]") {
  CHECK(blake2b64("synth_0") == 0x5239a8e7ec3e73d9u);
  CHECK(blake2b64("a") == 0x40f89e395b66422fu);
  CHECK(blake2b64("rescore:synth_0") == 0x1ccd0a9370daf9c6u);
  // int.from_bytes(hashlib.blake2b(b"x" * n, digest_size=8).digest(), "big") around the block of 128 bytes
  CHECK(blake2b64("") == 0xe4a6a0577479b2b4u);
  CHECK(blake2b64(std::string(128, 'x')) == 0x901ce374e8e12402u);
  CHECK(blake2b64(std::string(129, 'x')) == 0x18de14b9d8eea5a3u);
  const HashShare share("0.001", "share");
  CHECK(share.threshold() == 18446744073709551u);
  CHECK(HashShare(".5", "share").threshold() == std::uint64_t{1} << 63);
  std::vector<int> valid;
  for (int i = 0; valid.size() < 3; ++i)
    if (share.has("synth_" + std::to_string(i))) valid.push_back(i);
  CHECK(valid == std::vector<int>{528, 1379, 1432});
  CHECK(HashShare("1", "share").has(~std::uint64_t{0}));
  CHECK_FALSE(HashShare("0", "share").has(std::uint64_t{0}));
  for (const char* wrong : {"", ".", "1.5", "2", "-1", "1e-3", "0.1.2", "x", "0.1234567890123456789"})
    CHECK_THROWS_AS(HashShare(wrong, "share"), ConfigError);
}

TEST_CASE("a row has the ids of Harmony, and masks whose wrappers belong to their message", "[data][token_files]") {
  const RowRenderer renderer(cut_tokenizer(),
                             {.effort = "high", .date = "2026-01-01", .instructions = "Answer briefly."});
  const RowDocument d = rendered(renderer, arithmetic());
  const std::vector<std::int32_t> expected{
      200006, 17360,  200008, 3575,   553,    17554,  162016, 11,     261,    4410,   6439,  2359,   22203,
      656,    7788,   17527,  558,    87447,  100594, 25,     220,    1323,   19,     12,    3218,   198,
      6576,   3521,   25,     220,    1323,   21,     12,     2290,   12,     2290,   279,   30377,  289,
      25,     1932,   279,    2,      13888,  18403,  25,     8450,   11,     49159,  11,    1721,   13,
      21030,  2804,   413,    7360,   395,    1753,   3176,   13,     200007, 200006, 77944, 200008, 2,
      68406,  279,    17045,  51088,  13,     200007, 200006, 1428,   200008, 4827,   382,   220,    17,
      659,    220,    17,     30,     200007, 200006, 173781, 200005, 35644,  200008, 2578,  290,    8663,
      13,     200007, 200006, 173781, 200005, 17196,  200008, 19,     200002};
  CHECK(d.ids == expected);
  CHECK(d.effort_at == 40);
  CHECK(d.prompt == 83);
  CHECK(d.reasoning == 4);
  CHECK(d.final == 1);
  CHECK(renderer.effort_ids() == std::vector<std::int32_t>{4465, 14093, 1932});
  CHECK(renderer.end_of_document() == 199999);
  const auto loss = label_aligned(d.loss), span = label_aligned(d.span);
  REQUIRE(span.size() == 101);
  for (std::size_t t = 0; t < span.size(); ++t) {
    CAPTURE(t);
    CHECK(int{span[t]} == (t >= 82 && t <= 91 ? 1 : t >= 92 && t <= 98 ? 2 : 0));
    CHECK(int{loss[t]} == (t >= 82 && t <= 98 ? 1 : 0));
  }
  RowSettings contents_alone{.effort = "high", .date = "2026-01-01", .instructions = "Answer briefly."};
  contents_alone.content_spans = true;
  const RowDocument c = rendered(RowRenderer(cut_tokenizer(), contents_alone), arithmetic());
  CHECK(c.loss == d.loss);
  CHECK(c.span == harmony_masks(cut_tokenizer(), std::span<const std::int32_t>(c.ids)).span);
}

TEST_CASE("a row is left out for the first reason that holds", "[data][token_files]") {
  RowSettings settings;
  settings.languages = {"en"};
  const RowRenderer renderer(cut_tokenizer(), settings);
  const auto skip = [&](auto&& change) {
    ReasoningRow row = arithmetic();
    change(row);
    RowDocument document;
    return renderer.render(row, document);
  };
  CHECK(skip([](ReasoningRow&) {}) == RowSkip::none);
  CHECK(skip([](ReasoningRow& r) { r.key = r.query = ""; }) == RowSkip::no_id);
  CHECK(skip([](ReasoningRow& r) { r.answer = "\xFF", r.query = ""; }) == RowSkip::not_utf8);
  CHECK(skip([](ReasoningRow& r) { r.query = " \t\xC2\xA0", r.reasoning = ""; }) == RowSkip::empty_query);
  CHECK(skip([](ReasoningRow& r) { r.reasoning = "\n", r.answer = ""; }) == RowSkip::empty_reasoning);
  CHECK(skip([](ReasoningRow& r) { r.answer = "\xE3\x80\x80", r.language = "de"; }) == RowSkip::empty_answer);
  CHECK(skip([](ReasoningRow& r) { r.language = "de"; }) == RowSkip::filtered);
  CHECK(skip([](ReasoningRow& r) { r.constraints = "it failed after maximum attempts."; }) == RowSkip::filtered);
  // Framing tokens in contents are text: no content can end its message.
  const RowDocument text = rendered(renderer, {"k", "en", "", "", "<|end|>?", "<|return|>", "<|start|>"});
  CHECK(std::count(text.ids.begin(), text.ids.end(), 200007) == 3);
}

TEST_CASE("long rows lose the beginning of the thought, then of the question, or are dropped", "[data][token_files]") {
  ReasoningRow row = arithmetic();
  row.reasoning = "Add the numbers. Add the numbers. Add 2 + 2.";
  const RowDocument whole = rendered(RowRenderer(cut_tokenizer(), {}), row);
  const auto all = static_cast<std::int64_t>(whole.ids.size());
  for (const std::int64_t less : {1, 5, 10, 12}) {
    CAPTURE(less);
    const RowRenderer renderer(cut_tokenizer(), {.max_length = all - less});
    const RowDocument d = rendered(renderer, row);
    CHECK(d.truncated);
    CHECK(static_cast<std::int64_t>(d.ids.size()) == all - less);
    CHECK(d.reasoning == std::max<std::int64_t>(1, whole.reasoning - less));
    CHECK(d.final == whole.final);
    CHECK(std::equal(d.ids.rbegin(), d.ids.rbegin() + 8, whole.ids.rbegin()));  // the answer and the thought's end
    CHECK(check_harmony(cut_tokenizer(), std::span<const std::int32_t>(d.ids), {.reasoning_row = true}).ok);
    RowDocument none;
    CHECK(RowRenderer(cut_tokenizer(), {.max_length = all - less, .too_long = LongRow::drop}).render(row, none) ==
          RowSkip::too_long);
  }
  RowDocument none;
  CHECK(RowRenderer(cut_tokenizer(), {.max_length = 40}).render(row, none) == RowSkip::too_long);
  // The question is cut where the thought has one token left; the prompt is shorter by that.
  const std::int64_t less = whole.reasoning - 1 + 3;
  const RowDocument d = rendered(RowRenderer(cut_tokenizer(), {.max_length = all - less}), row);
  CHECK(d.reasoning == 1);
  CHECK(d.prompt == whole.prompt - 3);
}

TEST_CASE("the effort follows the length of the thought where asked for", "[data][token_files]") {
  const RowRenderer renderer(cut_tokenizer(), {.effort = "by-length", .low_below = 4, .medium_below = 5});
  ReasoningRow row = arithmetic();
  CHECK(rendered(renderer, row).effort == "medium");  // 4 tokens
  row.reasoning = "Add 2";
  const RowDocument low = rendered(renderer, row);
  CHECK(low.effort == "low");
  CHECK(low.ids[static_cast<std::size_t>(low.effort_at)] == 4465);
  row.reasoning = "Add the numbers. Add";
  CHECK(rendered(renderer, row).effort == "high");
  CHECK_THROWS_WITH(RowRenderer(cut_tokenizer(), {.effort = "by-length"}), contains("two limits that rise"));
  CHECK_THROWS_WITH(RowRenderer(cut_tokenizer(), {.effort = "huge"}), contains("'huge'"));
  CHECK_THROWS_AS(RowRenderer(cut_tokenizer("smollm2"), {}), InputError);
}

TEST_CASE("a chat template writes the thought inside <think>, with the same masks", "[data][token_files]") {
  for (const char* name : {"chatml", "qwen3"}) {
    CAPTURE(name);
    const Tokenizer& qwen = cut_tokenizer("qwen3");
    const RowRenderer renderer(qwen, {.chat_template = name});
    const RowDocument d = rendered(renderer, arithmetic());
    std::string prompt, thought, answer;
    for (std::size_t i = 0; i < d.ids.size(); ++i) {
      CHECK((d.loss[i] != 0) == (d.span[i] != 0));
      (d.span[i] == 0 ? prompt : d.span[i] == 1 ? thought : answer) += qwen.token_bytes(d.ids[i]);
    }
    CHECK_THAT(prompt, contains("What is 2 + 2?") && !contains("Add"));
    CHECK_THAT(thought, contains("<think>\nAdd the numbers.\n</think>"));
    CHECK_THAT(answer, contains("4<|im_end|>") && !contains("think"));
    CHECK(d.effort_at == -1);
    RowDocument none;
    ReasoningRow broken = arithmetic();
    broken.answer = "</think> 4";
    CHECK(renderer.render(broken, none) == RowSkip::invalid);
    RowSettings cut{.max_length = static_cast<std::int64_t>(d.ids.size()) - 2, .chat_template = name};
    const RowDocument shorter = rendered(RowRenderer(qwen, cut), arithmetic());
    CHECK(shorter.reasoning == d.reasoning - 2);
    CHECK(shorter.prompt == d.prompt);
  }
  // " low" and " high" are several tokens each in the cut vocabulary: no mode can be put in place of another.
  CHECK_THROWS_WITH(RowRenderer(cut_tokenizer("qwen3"), {.effort = "low", .chat_template = "chatml"}),
                    contains("modes of reasoning cannot be used"));
  CHECK_THROWS_WITH(RowRenderer(cut_tokenizer("qwen3"), {.identity = "I", .chat_template = "chatml"}),
                    contains("belong to Harmony"));
}

TEST_CASE("texts of a chat template have the spans of their token files, and the right form or not",
          "[data][token_files]") {
  const Tokenizer& qwen = cut_tokenizer("qwen3");
  const TemporaryDirectory folder;
  write_file_atomically(folder / "rows.jsonl",
                        "{\"synth_id\":\"a\",\"query\":\"What is 2 + 2?\",\"synthetic_reasoning\":\"Add.\","
                        "\"synthetic_answer\":\"4\"}\n");
  TokenFileSettings settings;
  settings.inputs = {folder / "rows.jsonl"};
  settings.out = folder / "files";
  settings.split = "0";
  settings.rows.chat_template = "chatml";
  write_token_files(qwen, settings);
  const TokenShards files = TokenShards::open(folder / "files", "train");
  CHECK(files.chat_template() == "chatml");
  const RolloutForm form = RolloutForm::of(files, qwen);
  CHECK(form.prompt_end.empty());
  StoredDocument d;
  files.get(0, d);
  CHECK(form.stop_ids.front() == d.ids.back());
  const auto prompt = static_cast<std::size_t>(files.records()[0].prompt);
  const std::vector<std::int32_t> text(d.ids.begin() + static_cast<std::ptrdiff_t>(prompt), d.ids.end());
  const std::vector<std::int32_t> spans = form.spans(text);
  for (std::size_t i = 0; i < text.size(); ++i) CHECK(spans[i] == d.span[prompt + i - 1] - 1);  // label-aligned there
  CHECK(form.valid(text));
  const auto valid = [&](const RolloutForm& how, const std::string& words, bool stopped = true) {
    std::vector<std::int32_t> ids = qwen.encode(words);
    if (stopped) ids.push_back(form.stop_ids.front());
    return how.valid(ids);
  };
  CHECK(valid(form, "<think>\nAdd.\n</think>\n\n4"));
  CHECK_FALSE(valid(form, "<think>\nAdd.\n</think>\n\n4", false));
  for (const char* wrong : {"", "4", "Add.</think>4", "<think>Add.", "<think>Add.</think>", "<think> </think>4",
                            "So <think>Add.</think>4", "<think>Add.</think>4</think>", "<think>A<think>d</think>4"})
    CHECK_FALSE(valid(form, wrong));
  const RolloutForm opened = RolloutForm::thinking(qwen, form.stop_ids, true);
  CHECK(valid(opened, "Add.</think>4"));
  CHECK_FALSE(valid(opened, "<think>Add.</think>4"));
  for (const std::int32_t s : form.spans(qwen.encode("<think>Add without an end"))) CHECK(s == 0);
  CHECK_THROWS_WITH(RolloutForm::thinking(qwen, {}), contains("ends a text"));
}
