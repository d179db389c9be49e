// SPDX-License-Identifier: Apache-2.0
// Name patterns and the rates they give.
#include "kdlib/optim/param_groups.hpp"
#include "support/catch.hpp"

TEST_CASE("a pattern fits a whole name, with stars over any run of characters", "[optim]") {
  using kdlib::matches_pattern;
  CHECK(matches_pattern("*.mlp.*", "model.layers.0.mlp.up_proj.weight"));
  CHECK_FALSE(matches_pattern(
      "*.mlp.*", "mlp.up_proj.weight"));  // nothing before the dot is a name of its own, the dot is not there
  CHECK(matches_pattern("*", ""));
  CHECK(matches_pattern("", ""));
  CHECK_FALSE(matches_pattern("", "a"));
  CHECK(matches_pattern("*.gate.weight", "a.gate.b.gate.weight"));  // the star must give back what it took first
  CHECK_FALSE(matches_pattern("*.gate.weight", "a.gate.weights"));
  CHECK(matches_pattern("layers.?.w", "layers.3.w"));
  CHECK_FALSE(matches_pattern("layers.?.w", "layers.13.w"));
  CHECK(matches_pattern("a*b*c", "axxbyybzzc"));
  CHECK_FALSE(matches_pattern("a*b*c", "axxbyybzz"));
}

TEST_CASE("the first group that fits decides and other names are frozen", "[optim]") {
  const kdlib::ParameterGroups groups({{"*.lora_A.*", 0.5}, {"*.lora_*", 2.0}, {"norm", 0.0}});
  CHECK(groups("x.lora_A.weight") == 0.5);
  CHECK(groups("x.lora_B.weight") == 2.0);
  CHECK(groups("norm") == 0.0);
  CHECK(groups("x.weight") == 0.0);
  CHECK(kdlib::only("*.mlp.*")("a.mlp.b") == 1.0);
  CHECK(kdlib::only("*.mlp.*", "norm")("norm") == 1.0);
  CHECK(kdlib::only("*.mlp.*")("norm") == 0.0);
  CHECK(kdlib::everything()("anything at all") == 1.0);
}

TEST_CASE("a negative multiplier and an empty pattern are refused", "[optim]") {
  CHECK_THROWS_WITH((kdlib::ParameterGroups({{"a", -1.0}})), contains("rate multiplier of a"));
  CHECK_THROWS_AS((kdlib::ParameterGroups({{"", 1.0}})), kdlib::ConfigError);
}

TEST_CASE("a pattern that fits no parameter is refused with the nearest names", "[optim]") {
  const std::vector<std::string> names{"model.embed_tokens.weight",         "model.layers.0.input_layernorm.weight",
                                       "model.layers.0.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight",
                                       "model.layers.1.mlp.up_proj.weight", "model.norm.weight"};
  CHECK_NOTHROW(kdlib::everything().check_names(names));
  CHECK_NOTHROW(kdlib::only("*.mlp.*", "*norm.weight").check_names(names));
  CHECK_THROWS_WITH(kdlib::only("*.mlp.*", "*.norn.weight").check_names(names),
                    contains("the pattern *.norn.weight fits none of the 6 parameters") &&
                        contains("the nearest are model.norm.weight"));
  CHECK_THROWS_WITH(kdlib::only("*.mlp.up_porj.*").check_names(names),
                    contains("the nearest are model.layers.0.mlp.up_proj.weight"));
}
