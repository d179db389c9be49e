// SPDX-License-Identifier: Apache-2.0
// Names of the columns of evaluate's table.
#include "kdlib/tools/evaluation_table.hpp"

#include <limits>

#include "kdlib/io/json.hpp"
#include "kdlib/tools/report.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using Names = std::vector<std::string>;

TEST_CASE("columns are named by the last parts of paths, by whole paths where these are equal", "[tools]") {
  CHECK(column_names({"m/a", "b"}, {}, {}) == Names{"a", "b"});
  CHECK(column_names({"m/a"}, {"none", "x/r"}, {}) == Names{"a", "a+r"});
  CHECK(column_names({"m/a", "n/a"}, {}, {}) == Names{"m/a", "n/a"});
  CHECK(column_names({"m/a"}, {"x/r", "y/r"}, {}) == Names{"m/a+x/r", "m/a+y/r"});
  CHECK(column_names({"m/a", "n/a"}, {}, {"one", "two"}) == Names{"one", "two"});
}

TEST_CASE("names that two columns would have, too few and too many are refused", "[tools]") {
  CHECK_THROWS_WITH(column_names({"m/a", "m/a"}, {}, {}), contains("--models has m/a twice"));
  CHECK_THROWS_WITH(column_names({"a", "b"}, {}, {"x", "x"}), contains("--names has x twice"));
  CHECK_THROWS_WITH(column_names({"a", "b"}, {}, {"x", ""}), contains("empty name"));
  CHECK_THROWS_WITH(column_names({"a", "b"}, {}, {"x"}), contains("--names: 1 for 2 columns"));
  CHECK_THROWS_WITH(column_names({"a", "b"}, {}, {"x", "y", "z"}), contains("--names: 3 for 2 columns"));
  CHECK_THROWS_AS(column_names({"a"}, {}, {"x", "y"}), UsageError);
}

TEST_CASE("a number that is null has no standard error", "[tools]") {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const ModelResult model{
      "m", "m", "", 1, {{"kl", {{"forward", none, 0.0}, {"reverse", 0.5, 0.25}, {"third", 0.5}}, {}}}};
  const Json kl = Json::parse(evaluation_json({model}, {}), "the table").at("models")[0].at("tasks").at("kl");
  CHECK(kl.at("forward").is_null());
  CHECK_FALSE(kl.contains("forward_stderr"));
  CHECK(kl.at("reverse_stderr").as_double() == 0.25);
  CHECK_FALSE(kl.contains("third_stderr"));
}
