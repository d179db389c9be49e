// SPDX-License-Identifier: Apache-2.0
// result.json: a figure that was not measured is null, and so is its standard error.
#include <limits>

#include "kdlib/io/json.hpp"
#include "kdlib/recipe/result.hpp"
#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("the error of a figure that was not measured is null", "[recipe]") {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  RecipeResult result;
  EvaluationRow whole{"distilled", 0.5, 0.25, 0.75, 0.5, 2, 1, 1, 8, 0.5};
  whole.forward_kl_error = 0.125;  // the other errors are 0, as where every document has the same value
  // Against the most probable tokens of a cache: no divergence over the vocabulary, and an objective.
  const EvaluationRow parts{"distilled", none, none, none, none, 2, none, none, 8, 0.5};
  EvaluationRow unknown = parts;
  unknown.objective_error = none;
  result.rows = {whole, parts, unknown};
  const Json models = Json::parse(result_json(result), "result.json").at("models");
  CHECK(models[0].at("forward_kl_error").as_double() == 0.125);
  for (const char* name : {"reverse_kl", "top1_agreement", "objective"})
    CHECK(models[0].at(std::string(name) + "_error").as_double() == 0);
  for (const char* name : {"forward_kl", "reverse_kl", "top1_agreement"}) {
    INFO(name);
    CHECK(models[1].at(name).is_null());
    CHECK(models[1].at(std::string(name) + "_error").is_null());
  }
  CHECK(models[1].at("objective_error").as_double() == 0);
  CHECK(models[2].at("objective").as_double() == 0.5);
  CHECK(models[2].at("objective_error").is_null());
}
