// SPDX-License-Identifier: Apache-2.0
// Divergences token by token against the means that agreement gives for the same text.
#include "kdlib/eval/token_divergence.hpp"

#include <cmath>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/eval/agreement.hpp"
#include "kdlib/teacher/live.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"
#include "support/toy_model.hpp"

using namespace kdlib;
using kdlib_tests::Tolerance;
using kdlib_tests::ToyModel;
using Ids = std::vector<std::int32_t>;

TEST_CASE("Token divergences stand at the token that the row predicts, and their mean is the held-out KL", "[eval]") {
  TokenBatch batch;  // a weight belongs to the row: the token before the one that is predicted
  batch.append(Ids{1, 2, 3, 4, 5, 6}, std::vector<float>{0, 0, 1, 1, 1, 0});
  batch.append(Ids{7}, {});
  batch.append(Ids{8, 9, 10}, std::vector<float>{1, 1, 0});
  ToyModel<double> student(11, 8, 1), teacher(11, 8, 2);
  LiveTeacher live{teacher};
  const EvaluationSettings small{.tokens = 4};  // several groups
  const std::vector<double> values = token_divergence(student, live, batch, small);
  REQUIRE(values.size() == 10);
  const std::vector<bool> counted = {false, false, false, true, true, true, false, false, true, true};
  double sum = 0, rows = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    INFO("token " << i);
    CHECK(std::isfinite(values[i]) == counted[i]);
    if (counted[i]) sum += values[i], ++rows;
  }
  const Agreement a = agreement(student, live, batch);
  CHECK(rows == a.tokens);
  CHECK(std::fabs(sum / rows - a.forward_kl) < Tolerance<double>::reduction * a.forward_kl);

  const std::vector<double> same = token_divergence(teacher, live, batch);
  for (std::size_t i = 0; i < same.size(); ++i)
    if (counted[i]) CHECK(std::fabs(same[i]) < Tolerance<double>::reduction);
}
