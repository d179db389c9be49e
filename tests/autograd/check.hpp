// SPDX-License-Identifier: Apache-2.0
// Random tensors in double, and a function of the tape against central differences.
#ifndef KDLIB_TESTS_AUTOGRAD_CHECK_HPP
#define KDLIB_TESTS_AUTOGRAD_CHECK_HPP

#include <cmath>
#include <vector>

#include "kdlib/autograd/functions.hpp"
#include "kdlib/autograd/grad_check.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

namespace kdlib_tests {

using namespace kdlib;
using Real = Tensor<double, Cpu>;
using Slot = Var<double, Cpu>;
using DoubleTape = Tape<double, Cpu>;
using Weight = Parameter<double, Cpu>;

inline std::uint32_t next_row = 0;

inline Real random(Shape shape, double scale = 1) {
  Real t(shape);
  const Rng rng(11, RngPurpose::test, 0, next_row++);
  for (std::int64_t i = 0; i < t.count(); ++i)
    t.data()[i] = scale * (2 * rng.uniform(static_cast<std::uint32_t>(i)) - 1);
  return t;
}

inline Weight weight(const char* name, Shape shape) {
  Weight p;
  p.name = name;
  p.value = random(shape);
  p.trainable = true;
  return p;
}

inline TokenLayout<Cpu> layout_of(const std::vector<std::int64_t>& lengths, const std::vector<std::int32_t>& ids = {}) {
  std::vector<std::int32_t> positions;
  std::vector<std::int64_t> offsets = {0};
  for (const std::int64_t n : lengths) {
    for (std::int64_t i = 0; i < n; ++i) positions.push_back(static_cast<std::int32_t>(i));
    offsets.push_back(offsets.back() + n);
  }
  const auto copy = [](auto const& list) {
    Tensor<std::decay_t<decltype(list[0])>, Cpu> t(Shape{static_cast<std::int64_t>(list.size())});
    std::copy(list.begin(), list.end(), t.data());
    return t;
  };
  return {copy(ids.empty() ? positions : ids), copy(positions), copy(offsets),
          static_cast<std::int64_t>(lengths.size())};
}

/// Checks d(sum of weights * f(inputs)) for every input and parameter. f takes the tape and the inputs as variables;
/// inputs are copied for each run because some functions work in place.
template <class F>
void check(std::vector<Real> inputs, std::vector<Weight*> parameters, F&& f) {
  const auto variables = [&](DoubleTape& tape) {
    std::vector<Slot> list;
    for (const Real& x : inputs) list.push_back(tape.variable(x.clone(), true));
    return list;
  };
  DoubleTape tape;
  std::vector<Slot> list = variables(tape);
  const Slot y = f(tape, list);
  const Real upstream = random(y.value.shape());
  const auto objective = [&] {
    DoubleTape silent(false);
    const Slot out = f(silent, variables(silent));
    double sum = 0;
    for (std::int64_t i = 0; i < out.value.count(); ++i) sum += out.value.data()[i] * upstream.data()[i];
    return sum;
  };
  tape.backward(y, upstream.clone());
  CHECK(tape.size() == 0);
  using Limits = Tolerance<double>;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    REQUIRE(list[i].gradient->value);
    CHECK(gradient_error(inputs[i].data(), list[i].gradient->value.data(), inputs[i].count(), Limits::difference_step,
                         objective) < Limits::finite_difference);
  }
  for (Weight* p : parameters) {
    CAPTURE(p->name);
    REQUIRE(p->gradient);
    CHECK(gradient_error(p->value.data(), p->gradient.data(), p->value.count(), Limits::difference_step, objective) <
          Limits::finite_difference);
  }
}

}  // namespace kdlib_tests

#endif
