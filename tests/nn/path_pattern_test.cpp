// SPDX-License-Identifier: Apache-2.0
// Regular expressions over module paths: Python's re.fullmatch for the supported syntax. Expected answers by
// Python 3.11.
#include "kdlib/nn/path_pattern.hpp"

#include "kdlib/nn/lora.hpp"
#include "support/catch.hpp"

using namespace kdlib;

namespace {
struct Row {
  const char *pattern, *text;
  bool matches;
};
}  // namespace

TEST_CASE("path patterns match as Python's re.fullmatch does", "[nn][lora]") {
  for (const Row& r : std::initializer_list<Row>{
           {"abc", "abc", true},
           {"abc", "abcd", false},
           {"a.c", "abc", true},
           {".*\\.(0|2)\\.(self_attn\\.(q|o)|mlp\\.gate)_proj", "model.layers.2.mlp.gate_proj", true},
           {".*\\.(0|2)\\.(self_attn\\.(q|o)|mlp\\.gate)_proj", "model.layers.1.mlp.gate_proj", false},
           {".*\\.(0|2)\\.(self_attn\\.(q|o)|mlp\\.gate)_proj", "model.layers.0.self_attn.v_proj", false},
           {"(.*\\.)?(^a.b)$", "a.b", true},
           {"(.*\\.)?(^a.b)$", "x.a.b", false},
           {"[a-c]+[^x]\\d{2,3}", "abcz123", true},
           {"[a-c]+[^x]\\d{2,3}", "abcx123", false},
           {"[a-c]+[^x]\\d{2,3}", "az1", false},
           {"(?:ab)*?c?", "ababc", true},
           {"(?P<n>a|b){3}", "aba", true},
           {"a{,2}", "aaa", false},
           {"a{,2}", "", true},
           {"a{x}", "a{x}", true},
           {"[]a]+", "]a", true},
           {"(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false},
           {"\\w+\\s\\W", "ab_9 -", true},
           {"a|", "", true}}) {
    CAPTURE(r.pattern, r.text);
    CHECK(PathPattern(r.pattern).matches(r.text) == r.matches);
  }
}

TEST_CASE("path patterns refuse what Python refuses", "[nn][lora]") {
  for (const char* pattern : {"(a", "a)", "[a", "a**", "a*?+", "*a", "a\\", "[z-a]", "a{3,2}", "a{2000}"}) {
    CAPTURE(pattern);
    CHECK_THROWS_AS(PathPattern(pattern), ConfigError);
  }
}

/// Answers of Python 3.11's re.fullmatch, listed by the loop
///   for p, t in rows: print(bool(re.fullmatch(p, t)))
const std::initializer_list<Row> irregular_rows = {
    {".*\\bq_proj", "model.layers.0.self_attn.q_proj", true},
    {".*\\bq_proj", "model.layers.0.self_attn.xq_proj", false},
    {".*\\Bq_proj", "model.layers.0.self_attn.xq_proj", true},
    {"\\Amodel\\.layers\\.\\d\\.mlp\\.up_proj\\Z", "model.layers.3.mlp.up_proj", true},
    {"(?i).*\\.Q_PROJ", "model.layers.0.self_attn.q_proj", true},
    {"(?i:Q)_proj", "q_proj", true},
    {"(?i:Q)_PROJ", "q_proj", false},
    {"(?ax)  .* \\. q_proj  # a comment", "self_attn.q_proj", true},
    {"(?s).*", "a\nb", true},
    {"(?!.*layers\\.0\\.).*q_proj", "model.layers.1.self_attn.q_proj", true},
    {"(?!.*layers\\.0\\.).*q_proj", "model.layers.0.self_attn.q_proj", false},
    {"(?=.*mlp).*_proj", "model.layers.0.mlp.up_proj", true},
    {"(?=.*mlp).*_proj", "model.layers.0.self_attn.q_proj", false},
    {".*(?<=mlp\\.)up_proj", "model.layers.0.mlp.up_proj", true},
    {".*(?<!mlp\\.)up_proj", "model.layers.0.mlp.up_proj", false},
    {"(a|b)\\1", "aa", true},
    {"(a|b)\\1", "ab", false},
    {"(?P<n>a|b)(?P=n)", "bb", true},
    {"(?P<n>a|b)(?P=n)", "ba", false},
    {"a++a", "aaa", false},
    {"a?+a", "a", false},
    {"a{2}+b", "aab", true},
    {"(?>a|ab)c", "abc", false},
    {"(a)?(?(1)b|c)", "ab", true},
    {"(a)?(?(1)b|c)", "c", true},
    {"(a)?(?(1)b|c)", "ac", false},
    {"\\b[[:alpha:]]", "a]", true},  // Python's class has the letters of "[:alph"
    {"\\b[[:alpha:]]", "b]", false},
    {"\\ba{,2}", "aa", true},
    {"\\ba{,2}", "a{,2}", false},
    {"\\ba{x}", "a{x}", true},
    {"a\\v", "a\x0b", true},
    {"a\\v", "a\n", false},
    {"\\x61\\u0062", "ab", true},
    {"[^]\\n]+\\b", "abc", true},
};
const char* const irregular_errors[] = {"a(?i)b",  "(?<n>a)",   "\\Qa",   "\\ba\\K", "(*ACCEPT)\\b",
                                        "(?R)\\b", "\\R",       "\\p{L}", "\\x6",    "\\b(a",
                                        "(?L)a",   "(?P>n)\\b", "(?|a)",  "[\\h]",   "\\N{DIGIT ONE}"};

#if defined(KDLIB_WITH_PCRE2)
TEST_CASE("path patterns that are not regular match as Python's re.fullmatch does", "[nn][lora]") {
  for (const Row& r : irregular_rows) {
    CAPTURE(r.pattern, r.text);
    CHECK(PathPattern(r.pattern).matches(r.text) == r.matches);
  }
  for (const char* pattern : irregular_errors) {
    CAPTURE(pattern);
    CHECK_THROWS_AS(PathPattern(pattern), ConfigError);
  }
}

TEST_CASE("a pattern of many thousand characters and a rank beyond 65535 are refused", "[nn][lora]") {
  std::string names = "q_proj";
  while (names.size() < 16384) names += "|q_proj";
  CHECK_THROWS_WITH(PathPattern(names), contains(concat("a pattern has ", names.size(), " characters; at most 16384")));
  CHECK(PathPattern(names.substr(names.size() - 16000)).matches("q_proj"));
  LoraSettings s;
  for (const std::int64_t rank : {std::int64_t{0}, std::int64_t{65536}, (std::int64_t{1} << 32) + 4}) {
    s.rank = rank;
    CHECK_THROWS_WITH(lora_rank(s, "a.q_proj"),
                      contains(concat("rank ", rank, " of a.q_proj; it must be from 1 to 65535")));
  }
}

TEST_CASE("a path pattern that backtracks without end is refused after a bounded number of steps", "[nn][lora]") {
  const PathPattern pattern("(a|aa|a.)*\\b[cd]");
  CHECK_THROWS_WITH(pattern.matches(std::string(60, 'a') + "b"), contains("limit exceeded"));
}

TEST_CASE("lists of layers may be regular expressions, as PEFT reads them", "[nn][lora]") {
  LoraSettings s;
  s.targets = {"q_proj"};
  s.layers = {2};
  s.layer_lists = {"(?:layers|h)"};
  CHECK(lora_targets(s, "model.layers.2.self_attn.q_proj"));
  CHECK(lora_targets(s, "transformer.h.2.self_attn.q_proj"));
  CHECK_FALSE(lora_targets(s, "model.layers.1.self_attn.q_proj"));
  CHECK_FALSE(lora_targets(s, "model.blocks.2.self_attn.q_proj"));
  s.layer_lists = {"(layers|h)"};  // group 1 is not the number: int() fails in Python
  CHECK_THROWS_WITH(lora_targets(s, "model.layers.2.self_attn.q_proj"), contains("a number is needed"));
  s.rank_pattern = {{"(?!q)._proj", 3}};
  CHECK(lora_rank(s, "model.layers.0.self_attn.v_proj") == 3);
  CHECK(lora_rank(s, "model.layers.0.self_attn.q_proj") == s.rank);
  s.rank_pattern = {{"(?i)V_PROJ", 3}};  // not at the start of PEFT's own expression: an error in Python, too
  CHECK_THROWS_WITH(lora_rank(s, "model.layers.0.self_attn.v_proj"), contains("global flags"));
}
#else
TEST_CASE("without PCRE2 path patterns that are not regular are refused by name", "[nn][lora]") {
  for (const Row& r : irregular_rows) {
    CAPTURE(r.pattern);
    CHECK_THROWS_WITH(PathPattern(r.pattern), contains("needs PCRE2") && contains("KDLIB_PCRE2=ON"));
  }
  for (const char* pattern : irregular_errors) CHECK_THROWS_AS(PathPattern(pattern), ConfigError);
  LoraSettings s;
  s.targets = {"q_proj"};
  s.layers = {2};
  s.layer_lists = {"(?:layers|h)"};
  CHECK_THROWS_WITH(lora_targets(s, "model.layers.2.self_attn.q_proj"), contains("need PCRE2"));
}
#endif

TEST_CASE("layers are chosen by the number behind the list's name", "[nn][lora]") {
  LoraSettings s;
  s.targets = {"q_proj", "model.layers.7.self_attn.k_proj"};
  s.layers = {0, 2};
  CHECK(lora_targets(s, "model.layers.2.self_attn.q_proj"));
  CHECK_FALSE(lora_targets(s, "model.layers.1.self_attn.q_proj"));
  CHECK(lora_targets(s, "model.layers.7.self_attn.k_proj"));  // a full path ignores the layers
  s.layer_lists = {"layers"};
  CHECK(lora_targets(s, "model.layers.0.self_attn.q_proj"));
  s.layer_lists = {"blocks"};
  CHECK_FALSE(lora_targets(s, "model.layers.0.self_attn.q_proj"));
  s.exclude = {"layers.0.self_attn.q_proj"};
  s.layer_lists.clear();
  CHECK_FALSE(lora_targets(s, "model.layers.0.self_attn.q_proj"));
  CHECK(detail::layer_index("model.layers.3.mlp.experts.5.up_proj", "") == 3);
  CHECK_FALSE(LoraSettings{.targets = {"proj"}}.targets.holds("model.layers.0.self_attn.q_proj"));
}

TEST_CASE("rank and alpha patterns fit the end of a path, the first one wins", "[nn][lora]") {
  LoraSettings s;
  s.rank = 4;
  s.alpha = 8;
  s.rank_pattern = {{"^model.layers.0.self_attn.v_proj", 3}, {"layers.1.mlp.down_proj", 2}, {"q_proj", 8}};
  s.alpha_pattern = {{"layers\\.[02]\\.mlp\\.down_proj", 12.5}, {"v_proj", 5}};
  CHECK(lora_rank(s, "model.layers.0.self_attn.v_proj") == 3);
  CHECK(lora_rank(s, "model.layers.1.self_attn.v_proj") == 4);
  CHECK(lora_rank(s, "model.layers.1.mlp.down_proj") == 2);
  CHECK(lora_rank(s, "model.layers.2.self_attn.q_proj") == 8);
  CHECK(lora_alpha(s, "model.layers.2.mlp.down_proj") == 12.5);
  CHECK(lora_alpha(s, "model.layers.1.mlp.down_proj") == 8);
}
