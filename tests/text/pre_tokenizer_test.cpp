// SPDX-License-Identifier: Apache-2.0
// Piece lists of the published regexes.
#include "kdlib/text/pre_tokenizer.hpp"

#include "support/catch.hpp"

using namespace kdlib;
using Pieces = std::vector<std::string_view>;

namespace {
void check(const char* text, const Pieces& gpt2, const Pieces& qwen, const Pieces& o200k) {
  INFO("text: " << text);
  CHECK(split_pieces(PreTokenizer::gpt2, text) == gpt2);
  CHECK(split_pieces(PreTokenizer::qwen, text) == qwen);
  CHECK(split_pieces(PreTokenizer::o200k, text) == o200k);
}
}  // namespace

// The lists were computed with the regexes themselves (Python's regex module).
TEST_CASE("scanners cut as the regexes do", "[text]") {
  const Pieces quotes = {"'s", "ilent", " don", "'t"};
  check("'silent don't", quotes, quotes, {"'silent", " don't"});
  const Pieces spaces = {"a", " ", " b", "   "};
  check("a  b   ", spaces, spaces, spaces);
  const Pieces newlines = {"x", " \n\n", " ", " y"};
  check("x \n\n  y", {"x", " \n\n ", " y"}, newlines, newlines);
  check("\"(hi\" //\n/z", {"\"(", "hi", "\"", " //", "\n", "/", "z"}, {"\"(", "hi", "\"", " //\n", "/z"},
        {"\"(", "hi", "\"", " //\n/", "z"});
  check("12345 6", {"12345", " 6"}, {"1", "2", "3", "4", "5", " ", "6"}, {"123", "45", " ", "6"});
  check("HTTPServer's DON'TX", {"HTTPServer", "'s", " DON", "'", "TX"}, {"HTTPServer", "'s", " DON", "'T", "X"},
        {"HTTPServer's", " DON'T", "X"});
  const Pieces no_break = {"\u00a0", "!", "\u00a0a"};
  check("\u00a0!\u00a0a", {"\u00a0", "!", "\u00a0", "a"}, no_break, no_break);
  check("\u0928\u092e\u0938\u094d\u0924\u0947", {"\u0928\u092e\u0938", "\u094d", "\u0924", "\u0947"},
        {"\u0928\u092e\u0938", "\u094d\u0924", "\u0947"}, {"\u0928\u092e\u0938\u094d\u0924\u0947"});
  const Pieces digit = {" ", " ", "7"};
  check("  7", {" ", " 7"}, digit, digit);
  check("e\u0301A\u0301b", {"e", "\u0301", "A", "\u0301", "b"}, {"e", "\u0301A", "\u0301b"}, {"e\u0301", "A\u0301b"});
  const Pieces tab = {";\r\n", "\tq"};
  check(";\r\n\tq", {";", "\r\n", "\t", "q"}, tab, tab);
}

TEST_CASE("o200k gives back what backtracking gives back", "[text]") {
  const auto o200k = [](const char* text) { return split_pieces(PreTokenizer::o200k, text); };
  CHECK(o200k("camelCaseWORDSHere's") == Pieces{"camel", "Case", "WORDSHere's"});
  CHECK(o200k("\u65e5\u672cA") == Pieces{"\u65e5\u672c", "A"});
  CHECK(o200k("A\u65e5BC d") == Pieces{"A\u65e5", "BC", " d"});
  CHECK(o200k("ABC'LLd") == Pieces{"ABC'LL", "d"});
  CHECK(o200k(" \u0301") == Pieces{" \u0301"});  // a mark behind a space: prefix and letter
  CHECK(o200k("\u0301\u0301") == Pieces{"\u0301\u0301"});
}

// Computed with Python's regex module, as above.
TEST_CASE("llama3 cuts as qwen does, with up to three digits a piece", "[text]") {
  const auto llama = [](const char* text) { return split_pieces(PreTokenizer::llama3, text); };
  CHECK(llama("12345 6") == Pieces{"123", "45", " ", "6"});
  CHECK(llama("it'S 1234567\u00bd\u2167x") == Pieces{"it", "'S", " ", "123", "456", "7\u00bd\u2167", "x"});
  CHECK(llama("\"(hi\" //\n/z") == Pieces{"\"(", "hi", "\"", " //\n", "/z"});
  CHECK(llama("x \n\n  y") == Pieces{"x", " \n\n", " ", " y"});
  CHECK(llama("e\u0301A\u0301b") == Pieces{"e", "\u0301A", "\u0301b"});
  CHECK(llama("\u0663\u0664\u0665\u0666") == Pieces{"\u0663\u0664\u0665", "\u0666"});
}

TEST_CASE("an apostrophe with U+017F is a contraction where case is folded", "[text]") {
  CHECK(split_pieces(PreTokenizer::qwen, "a'\u017Fb") == Pieces{"a", "'\u017F", "b"});
  CHECK(split_pieces(PreTokenizer::gpt2, "a'Sb") == Pieces{"a", "'", "Sb"});
}

TEST_CASE("the digit step ends the text for the regex behind it", "[text]") {
  const auto digits = [](const char* text) { return split_pieces(PreTokenizer::gpt2_digits, text); };
  CHECK(digits(" 123") == Pieces{" ", "1", "2", "3"});
  CHECK(digits("a\n\n1") == Pieces{"a", "\n\n", "1"});
  CHECK(digits("v2.0  x") == Pieces{"v", "2", ".", "0", " ", " x"});
  CHECK(digits(" \u00bd\u2167") == Pieces{" ", "\u00bd", "\u2167"});
  CHECK(digits("it's 9's") == Pieces{"it", "'s", " ", "9", "'s"});
}

TEST_CASE("pieces together are the text", "[text]") {
  std::string text;
  for (char32_t c = 0; c < 0x3100; ++c) append_utf8(text, c);
  for (const PreTokenizer kind :
       {PreTokenizer::gpt2, PreTokenizer::gpt2_digits, PreTokenizer::qwen, PreTokenizer::o200k, PreTokenizer::llama3}) {
    std::string joined;
    for (const std::string_view piece : split_pieces(kind, text)) {
      CHECK_FALSE(piece.empty());
      joined += piece;
    }
    CHECK(joined == text);
  }
}

TEST_CASE("an unknown tokenizer.ggml.pre is refused by name", "[text]") {
  CHECK(gguf_pre_tokenizer("smollm", "m.gguf").kind == PreTokenizer::gpt2_digits);
  CHECK(gguf_pre_tokenizer("qwen2", "m.gguf").kind == PreTokenizer::qwen);
  for (const char* name : {"llama-bpe", "llama3", "llama-v3"}) {
    const GgufPreTokenizer& llama = gguf_pre_tokenizer(name, "m.gguf");
    CHECK(llama.kind == PreTokenizer::llama3);
    CHECK(llama.ignores_merges);
    CHECK(llama.adds_bos);
    CHECK_FALSE(llama.nfc);
  }
  CHECK_THROWS_WITH(gguf_pre_tokenizer("dbrx", "m.gguf"),
                    contains("m.gguf") && contains("\"dbrx\"") && contains("llama-bpe") && contains("qwen2"));
  for (const char* name : {"gpt-2", "olmo", "smollm", "command-r", "qwen2", "gpt-4o", "llama-bpe"}) {
    const GgufPreTokenizer& pre = gguf_pre_tokenizer(name, "m.gguf");
    CHECK(gguf_pre_tokenizer_name(pre.kind, pre.nfc, pre.ignores_merges) == name);
  }
  CHECK(gguf_pre_tokenizer_name(PreTokenizer::qwen, false, false).empty());
}
