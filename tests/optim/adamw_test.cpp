// SPDX-License-Identifier: Apache-2.0
// AdamW against torch.optim.AdamW, Sgd, clipping.
#include <cmath>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/optim/sgd.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

namespace {
using kdlib::Cpu;

template <class T>
kdlib::Parameter<T, Cpu> parameter(const char* name, kdlib::Shape shape, const std::vector<double>& values) {
  kdlib::Parameter<T, Cpu> p;
  p.name = name;
  p.trainable = true;
  p.value = kdlib::Tensor<T, Cpu>(shape);
  for (std::size_t i = 0; i < values.size(); ++i) p.value.data()[i] = static_cast<T>(values[i]);
  return p;
}

template <class T>
void set_gradient(kdlib::Parameter<T, Cpu>& p, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) p.gradient_view().data()[i] = static_cast<T>(values[i]);
}

template <class T>
bool near_all(const kdlib::Parameter<T, Cpu>& p, const std::vector<double>& expected) {
  bool all = true;
  for (std::size_t i = 0; i < expected.size(); ++i)
    all = all && kdlib_tests::near(static_cast<double>(p.value.data()[i]), expected[i],
                                   kdlib_tests::Tolerance<T>::elementwise);
  return all;
}
}  // namespace

TEMPLATE_TEST_CASE("AdamW moves a matrix with decay and a vector without as torch does", "[optim]", float, double) {
  using T = TestType;
  auto w = parameter<T>("w", {2, 3}, {0.5, -1.0, 2.0, 1e-3, 0.0, -0.25});
  auto b = parameter<T>("b", {2}, {1.0, -2.0});
  auto state = kdlib::AdamW{.beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.1}.state<T, Cpu>({&w, &b});
  for (int step = 0; step < 5; ++step) {
    std::vector<double> g(6);
    for (int i = 0; i < 6; ++i) g[static_cast<std::size_t>(i)] = std::sin(i + step);
    set_gradient(w, g);
    set_gradient(b, {1e-9 * (step - 2), 3.0 * (step - 2)});
    state.step(1e-2 * (step + 1));
  }
  // torch 2.15, float64: AdamW([{w, weight_decay=.1}, {b, weight_decay=0}], betas=(.8, .95), eps=1e-8), lr = .01 (step
  // + 1), w.grad = sin(arange(6) + step), b.grad = (1e-9, 3) (step - 2), five steps.
  CHECK(near_all(w, {0.4118459725056847, -1.0330942973718968, 1.987656345965397, 0.0718403469372356,
                     0.05631270107632296, -0.2540694380150621}));
  CHECK(near_all(b, {1.0053237389054244, -1.9592890395894087}));
  CHECK(state.steps() == 5);
}

TEST_CASE("AdamW's moments keep the small rest of beta2 in float", "[optim]") {
  auto p = parameter<float>("p", {1}, {0.0});
  auto state = kdlib::AdamW{}.state<float, Cpu>({&p});
  set_gradient(p, {1.0});
  state.step(0);
  // (1 - 0.999) * 1^2; with 0.999 rounded to float before the subtraction it is off by 1.3e-5 of its size
  CHECK(std::abs(static_cast<double>(state.tensors()[1].second.data()[0]) / 1e-3 - 1) <
        kdlib_tests::Tolerance<float>::elementwise);
}

TEST_CASE("a gradient scale of one half is a gradient of half the size", "[optim]") {
  auto a = parameter<double>("p", {3}, {1, 2, 3}), b = parameter<double>("p", {3}, {1, 2, 3});
  auto state_a = kdlib::AdamW{}.state<double, Cpu>({&a}), state_b = kdlib::AdamW{}.state<double, Cpu>({&b});
  set_gradient(a, {0.5, -4, 8});
  set_gradient(b, {0.25, -2, 4});
  state_a.step(0.1, 0.5);
  state_b.step(0.1);
  for (int i = 0; i < 3; ++i) {
    CHECK(a.value.data()[i] == b.value.data()[i]);
    CHECK(state_a.tensors()[1].second.data()[i] == state_b.tensors()[1].second.data()[i]);
  }
}

TEST_CASE("rate multipliers act on the rate of their parameter alone", "[optim]") {
  auto a = parameter<double>("a", {1}, {1}), b = parameter<double>("b", {1}, {1});
  auto state = kdlib::Sgd{}.state<double, Cpu>({&a, &b}, {1.0, 0.25});
  set_gradient(a, {2});
  set_gradient(b, {2});
  state.step(0.5);
  CHECK(a.value.data()[0] == 0.0);
  CHECK(b.value.data()[0] == 0.75);
  CHECK_THROWS_WITH((kdlib::Sgd{}.state<double, Cpu>({&a, &b}, {1.0})),
                    contains("1 rate multipliers for 2 parameters"));
}

TEST_CASE("AdamW refuses settings outside their range, naming them", "[optim]") {
  auto p = parameter<float>("p", {1}, {0.0});
  CHECK_THROWS_WITH((kdlib::AdamW{.beta1 = 1.0}.state<float, Cpu>({&p})), contains("beta1"));
  CHECK_THROWS_WITH((kdlib::AdamW{.beta2 = -0.1}.state<float, Cpu>({&p})), contains("beta2"));
  CHECK_THROWS_WITH((kdlib::AdamW{.epsilon = 0}.state<float, Cpu>({&p})), contains("epsilon"));
  CHECK_THROWS_WITH((kdlib::AdamW{.weight_decay = -1}.state<float, Cpu>({&p})), contains("weight_decay"));
}

TEST_CASE("the gradient norm counts all parameters and clipping never raises it", "[optim]") {
  auto a = parameter<float>("a", {2}, {0, 0}), b = parameter<float>("b", {1}, {0}),
       frozen = parameter<float>("c", {1}, {0});
  set_gradient(a, {3, 0});
  set_gradient(b, {4});
  const std::vector<kdlib::Parameter<float, Cpu>*> all{&a, &b, &frozen};
  CHECK(kdlib::gradient_norm(all) == 5.0);
  CHECK(kdlib::measure_clip(all, 10.0).factor == 1.0);
  CHECK(kdlib::measure_clip(all, 0.0).factor == 1.0);  // 0: no clipping
  CHECK(kdlib_tests::near(kdlib::measure_clip(all, 1.0).factor, 1.0 / (5.0 + 1e-6),
                          kdlib_tests::Tolerance<double>::elementwise));
}

TEST_CASE("an optimizer's state leaves out what is not trainable, and its rate with it", "[optim]") {
  auto frozen = parameter<float>("frozen", {2, 2}, {1, 2, 3, 4}), trained = parameter<float>("trained", {1}, {1});
  frozen.trainable = false;
  auto state = kdlib::AdamW{.weight_decay = 0.5}.state<float, Cpu>({&frozen, &trained}, {1.0, 0.5});
  CHECK(state.tensors().size() == 2);  // both moments of one parameter
  CHECK(state.tensors().front().first == "first_moment.trained");
  set_gradient(trained, {2});
  state.step(0.5);
  CHECK(frozen.value.data()[3] == 4.0f);  // no decay
  CHECK_FALSE(frozen.gradient);
  CHECK(std::abs(trained.value.data()[0] - 0.75f) < 1e-6f);  // one step of 0.5 * 0.5
  auto sgd = kdlib::Sgd{}.state<float, Cpu>({&frozen, &trained}, {1.0, 0.5});
  sgd.step(0.5);
  CHECK(trained.value.data()[0] < 0.5f);
  CHECK_FALSE(frozen.gradient);
  CHECK_THROWS_WITH((kdlib::AdamW{}.state<float, Cpu>({&frozen})), contains("none of the 1 parameters is trainable"));
  CHECK_THROWS_WITH((kdlib::Sgd{}.state<float, Cpu>({&frozen})), contains("none of the 1 parameters is trainable"));
}

TEST_CASE("trainable_parameters gives what a model marks, in its order", "[optim]") {
  struct Model {
    std::vector<kdlib::Parameter<float, Cpu>> all;
    std::vector<kdlib::Parameter<float, Cpu>*> parameters() { return {&all[0], &all[1], &all[2]}; }
  } model{{parameter<float>("a", {1}, {0}), parameter<float>("b", {1}, {0}), parameter<float>("c", {1}, {0})}};
  model.all[1].trainable = false;
  const auto trained = kdlib::trainable_parameters(model);
  REQUIRE(trained.size() == 2);
  CHECK(trained[0]->name == "a");
  CHECK(trained[1]->name == "c");
}
