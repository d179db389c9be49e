// SPDX-License-Identifier: Apache-2.0
// Regular expressions over module paths: Python's re.fullmatch for the supported syntax. Expected answers by
// Python 3.11.
#include "kdlib/nn/path_pattern.hpp"

#include "kdlib/nn/lora.hpp"
#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("path patterns match as Python's re.fullmatch does", "[nn][lora]") {
  struct Row {
    const char *pattern, *text;
    bool matches;
  };
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

TEST_CASE("path patterns refuse what is not regular or not well formed", "[nn][lora]") {
  for (const char* pattern :
       {"(a", "a)", "[a", "a**", "*a", "(?=a)", "(?i)a", "\\1", "\\bq", "a\\", "[z-a]", "a{3,2}", "a{2000}"}) {
    CAPTURE(pattern);
    CHECK_THROWS_AS(PathPattern(pattern), ConfigError);
  }
}

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
