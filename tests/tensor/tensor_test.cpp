// SPDX-License-Identifier: Apache-2.0
#include "kdlib/tensor/parameter.hpp"

#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("copies of a tensor share its elements, clones do not", "[tensor]") {
  Tensor<float, Cpu> a = Tensor<float, Cpu>::zeros({2, 3});
  Tensor<float, Cpu> b = a, c = a.clone();
  a.data()[4] = 7;
  CHECK(b.data()[4] == 7.0f);
  CHECK(c.data()[4] == 0.0f);
  CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % Memory<Cpu>::alignment == 0);
  CHECK_THROWS_AS(a.reshape({7}), ShapeError);
  CHECK(a.reshape({3, 2})[0] == 3);
  CHECK_THROWS_AS(a.rows(1, 2), ShapeError);
  CHECK(a.rows(1, 1).data() == a.data() + 3);
}

TEST_CASE("memory in use goes back when the last tensor goes", "[tensor]") {
  const std::int64_t before = memory_use<Cpu>().now.load();
  memory_use<Cpu>().reset_peak();
  {
    Tensor<double, Cpu> a({1000});
    Tensor<double, Cpu> b = a;
    CHECK(memory_use<Cpu>().now.load() - before == 8000);
  }
  CHECK(memory_use<Cpu>().now.load() == before);
  CHECK(memory_use<Cpu>().peak.load() - before == 8000);
}

TEST_CASE("a parameter's gradient appears on first use, as zeros", "[tensor]") {
  Parameter<float, Cpu> p{"w", Tensor<float, Cpu>::zeros({4}), {}, true, true};
  CHECK_FALSE(static_cast<bool>(p.gradient));
  p.gradient_view().data()[2] = 3;
  CHECK(p.gradient.data()[0] == 0.0f);
  p.zero_gradient();
  CHECK(p.gradient.data()[2] == 0.0f);
}

TEST_CASE("shapes above rank four and negative extents are refused", "[tensor]") {
  CHECK_THROWS_AS((Shape{1, 2, 3, 4, 5}), ShapeError);
  CHECK_THROWS_AS((Shape{-1}), ShapeError);
  CHECK((Shape{}).count() == 1);
}
