// SPDX-License-Identifier: Apache-2.0
// The live teacher keeps the right rows and borrows its model.
#include <type_traits>
#include <utility>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/teacher/live.hpp"
#include "support/catch.hpp"
#include "support/toy_model.hpp"

using namespace kdlib;
using kdlib_tests::ToyModel;
using Ids = std::vector<std::int32_t>;

TEMPLATE_TEST_CASE("a live teacher keeps the hidden states of exactly the rows that count, in their order (C14)",
                   "[teacher][C14]", float, double) {
  using Model = ToyModel<TestType>;
  static_assert(TeacherSource<LiveTeacher<Model>>);
  Model model(20, 5, 1);
  LiveTeacher teacher{model};
  TokenBatch batch;
  batch.append(Ids{1, 2, 3, 4, 5}, std::vector<float>{0, 1, 1, 0, 0});
  batch.append(Ids{6}, {});
  batch.append(Ids{7, 8, 9}, std::vector<float>{0.5f, 0, 0});
  teacher.prepare(batch);
  REQUIRE(teacher.rows() == 3);
  const Tensor<TestType, Cpu> hidden = model.forward(batch);
  const std::vector<std::int64_t> expected = {1, 2, 6};
  for (std::int64_t begin = 0; begin <= 3; ++begin)
    for (std::int64_t count = 0; begin + count <= 3; ++count) {
      const HiddenTargets<TestType, Cpu> targets = teacher.targets(begin, count);
      REQUIRE(targets.hidden.shape() == Shape{count, 5});
      REQUIRE(targets.head.weight.data() == model.head().weight.data());
      for (std::int64_t r = 0; r < count; ++r)
        for (std::int64_t j = 0; j < 5; ++j)
          REQUIRE(targets.hidden.data()[r * 5 + j] ==
                  hidden.data()[expected[static_cast<std::size_t>(begin + r)] * 5 + j]);
    }
  REQUIRE_THROWS_AS(teacher.targets(2, 2), ShapeError);
}

TEST_CASE("a live teacher does not run for a batch without rows, and serves batches of any size after it",
          "[teacher]") {
  ToyModel<float> model(20, 5, 1);
  LiveTeacher teacher{model};
  TokenBatch none;
  none.append(Ids{1, 2, 3}, std::vector<float>{0, 0, 0});
  teacher.prepare(none);
  REQUIRE(model.forward_calls == 0);
  REQUIRE(teacher.targets(0, 0).hidden.count() == 0);
  for (const std::size_t length : {4u, 2u, 9u}) {
    TokenBatch batch;
    batch.append(Ids(length, 3));
    teacher.prepare(batch);
    REQUIRE(teacher.rows() == static_cast<std::int64_t>(length) - 1);
    REQUIRE(teacher.targets(0, teacher.rows()).hidden[0] == teacher.rows());
  }
}

TEST_CASE("a copy of a live teacher does not disturb what the first one prepared", "[teacher]") {
  ToyModel<float> model(20, 5, 1);
  LiveTeacher first{model};
  TokenBatch one, other;
  one.append(Ids{1, 2, 3});
  other.append(Ids{4, 5, 6});
  first.prepare(one);
  LiveTeacher second = first;
  REQUIRE(second.rows() == 0);
  const float before = first.targets(0, 2).hidden.data()[0];
  second.prepare(other);
  REQUIRE(first.targets(0, 2).hidden.data()[0] == before);
  second = first;
  REQUIRE_THROWS_AS(second.targets(0, 1), ShapeError);
}

TEST_CASE("ids outside the teacher's vocabulary are refused", "[teacher]") {
  ToyModel<float> model(20, 5, 1);
  LiveTeacher teacher{model};
  TokenBatch batch;
  batch.append(Ids{1, 20});
  REQUIRE_THROWS_WITH(teacher.prepare(batch), contains("id 20") && contains("vocabulary of 20"));
}

TEST_CASE("a live teacher rejects temporaries, constant ones too", "[teacher]") {
  using Model = ToyModel<float>;
  static_assert(std::is_constructible_v<LiveTeacher<Model>, Model&>);
  static_assert(!std::is_constructible_v<LiveTeacher<Model>, Model&&>);
  static_assert(!std::is_constructible_v<LiveTeacher<Model>, const Model&&>);
  SUCCEED();
}
