// SPDX-License-Identifier: Apache-2.0
// Routing, experts, shared gate and attention sinks: values by hand and from the published vectors, gradients against
// central differences.
#include <algorithm>

#include "kdlib/autograd/experts.hpp"

#include "check.hpp"
#include "kdlib/nn/shared_core_experts.hpp"

using namespace kdlib_tests;
using Limits = Tolerance<double>;

namespace {

Real filled(Shape shape, const std::vector<double>& values) {
  Real t(shape);
  std::copy(values.begin(), values.end(), t.data());
  return t;
}

struct Set {
  Weight gate_up, gate_up_bias, down, down_bias;
  ExpertOperand<double, Cpu> operand;
  std::vector<Weight*> list;

  Set(std::int64_t e, std::int64_t inner, std::int64_t h, bool bias, ExpertActivation activation)
      : gate_up(weight("gate_up", Shape{e, 2 * inner, h})),
        gate_up_bias(weight("gate_up_bias", Shape{e, 2 * inner})),
        down(weight("down", Shape{e, h, inner})),
        down_bias(weight("down_bias", Shape{e, h})) {
    operand.gate_up = &gate_up;
    operand.down = &down;
    operand.activation = activation;
    list = {&gate_up, &down};
    if (!bias) return;
    operand.gate_up_bias = &gate_up_bias;
    operand.down_bias = &down_bias;
    list.insert(list.end(), {&gate_up_bias, &down_bias});
  }
  Set(const Set&) = delete;
};

}  // namespace

TEST_CASE("routing gives the published experts and weights, ties go to the lower index", "[autograd][experts]") {
  // Logits [1,3,2,0]: p = 0.08714432, 0.64391426, 0.23688282, 0.03205860; over the chosen two 0.73105858, 0.26894142.
  DoubleTape silent(false);
  const Slot logits{filled(Shape{2, 4}, {1, 3, 2, 0, 5, 7, 7, 7}), nullptr};
  const auto chosen = route(silent, RouterRule{4, 2, true}, logits),
             all = route(silent, RouterRule{4, 2, false}, logits);
  CHECK(std::vector<int>(chosen.ids.data(), chosen.ids.data() + 4) == std::vector<int>{1, 2, 1, 2});
  CHECK(std::abs(chosen.weights.value.data()[0] - 0.73105858) < 1e-8);
  CHECK(std::abs(chosen.weights.value.data()[1] - 0.26894142) < 1e-8);
  CHECK(std::abs(all.weights.value.data()[0] - 0.64391426) < 1e-8);
  CHECK(std::abs(all.weights.value.data()[1] - 0.23688282) < 1e-8);
  CHECK(std::vector<std::int64_t>(chosen.offsets.data(), chosen.offsets.data() + 5) ==
        std::vector<std::int64_t>{0, 0, 2, 4, 4});
  CHECK(std::vector<std::int64_t>(chosen.token.data(), chosen.token.data() + 4) ==
        std::vector<std::int64_t>{0, 1, 0, 1});
  CHECK(std::vector<std::int64_t>(chosen.place.data(), chosen.place.data() + 4) ==
        std::vector<std::int64_t>{0, 2, 1, 3});
}

TEST_CASE("routing weights: gradients over the chosen and over all experts, and with K = E", "[autograd][experts]") {
  for (const std::int64_t active : {1, 2, 5})
    for (const bool over_chosen : {true, false}) {
      CAPTURE(active, over_chosen);
      const RouterRule rule{5, active, over_chosen};
      check({random(Shape{6, 5}, 2)}, {},
            [&](DoubleTape& t, const std::vector<Slot>& x) { return route(t, rule, x[0]).weights; });
    }
}

TEST_CASE("replayed routing keeps the experts and takes the weights of today's logits", "[autograd][experts]") {
  const RouterRule rule{5, 2, true};
  Tensor<std::int32_t, Cpu> ids(Shape{3, 2});
  const std::int32_t given[] = {4, 0, 1, 2, 3, 0};
  std::copy(given, given + 6, ids.data());
  const Real logits = random(Shape{3, 5}, 2);
  DoubleTape silent(false);
  const auto r = route(silent, rule, Slot{logits, nullptr}, ids);
  CHECK(std::equal(given, given + 6, r.ids.data()));
  for (int n = 0; n < 3; ++n) {
    const double a = std::exp(logits.data()[n * 5 + given[2 * n]]),
                 b = std::exp(logits.data()[n * 5 + given[2 * n + 1]]);
    CHECK(std::abs(r.weights.value.data()[2 * n] - a / (a + b)) < Limits::elementwise * 10);
  }
  check({logits}, {}, [&](DoubleTape& t, const std::vector<Slot>& x) { return route(t, rule, x[0], ids).weights; });
}

namespace {
RouterTotals totals_of(RouterSums<Cpu>& sums) {
  PendingRouterTotals<Cpu> pending = sums.pending<double>();
  HostReads<Cpu> reads;
  pending.read(reads);
  reads.wait();
  return pending.here;
}
}  // namespace

TEST_CASE("balance and z terms: the published value, and gradients through the probabilities alone",
          "[autograd][experts]") {
  // E = 4, K = 2, logits [1,3,2,0] and [0,1,2,3]: aux = 2.35456271 (Switch Transformer's loss as transformers writes
  // it).
  RouterSums<Cpu> sums;
  sums.balance_weight = 1;
  sums.begin(1);
  DoubleTape silent(false);
  route(silent, RouterRule{4, 2, true}, Slot{filled(Shape{2, 4}, {1, 3, 2, 0, 0, 1, 2, 3}), nullptr}, {}, &sums, 0);
  const RouterTotals totals = totals_of(sums);
  CHECK(std::abs(totals.balance() - 2.35456271) < 1e-8);
  const double lse =
      std::log(std::exp(0.0) + std::exp(1.0) + std::exp(2.0) + std::exp(3.0));  // both rows hold 0, 1, 2, 3
  CHECK(std::abs(totals.z() - lse * lse) < Limits::reduction);

  const RouterRule rule{5, 2, true};
  std::vector<Real> inputs = {random(Shape{6, 5}, 2), random(Shape{6, 5}, 2)};  // two layers
  for (const auto& weights : {std::pair{0.7, 0.0}, std::pair{0.0, 0.3}, std::pair{0.7, 0.3}}) {
    const double balance = weights.first, z = weights.second;
    CAPTURE(balance, z);
    RouterSums<Cpu> both;
    both.balance_weight = balance;
    both.z_weight = z;
    const auto run = [&](DoubleTape& tape, std::vector<Slot>& x) {
      both.begin(2);
      Slot last;
      for (std::size_t i = 0; i < 2; ++i) {
        x.push_back(tape.variable(inputs[i].clone(), true));
        last = route(tape, rule, x.back(), {}, &both, static_cast<std::int64_t>(i)).weights;
      }
      return last;
    };
    DoubleTape tape;
    std::vector<Slot> x;
    const Slot y = run(tape, x);
    tape.backward(y, Real::zeros(y.value.shape()));
    for (std::size_t i = 0; i < 2; ++i) {
      REQUIRE(x[i].gradient->value);
      const auto objective = [&] {
        DoubleTape quiet(false);
        std::vector<Slot> again;
        run(quiet, again);
        return balance * totals_of(both).balance() + z * totals_of(both).z();
      };
      CHECK(gradient_error(inputs[i].data(), x[i].gradient->value.data(), inputs[i].count(), Limits::difference_step,
                           objective) < Limits::finite_difference);
    }
  }
}

TEST_CASE("experts equal a loop over tokens", "[autograd][experts]") {
  const std::int64_t n = 9, h = 6, inner = 4, e = 5, k = 2;
  Set w(e, inner, h, true, {});
  const Real x = random(Shape{n, h}), z = random(Shape{n, e}, 2);
  DoubleTape silent(false);
  const auto routing = route(silent, RouterRule{e, k, true}, Slot{z, nullptr});
  const Slot y = experts(silent, w.operand, routing, Slot{x, nullptr}, Slot{x, nullptr});
  for (std::int64_t t = 0; t < n; ++t) {
    std::vector<double> sum(x.data() + t * h, x.data() + (t + 1) * h);
    for (std::int64_t j = 0; j < k; ++j) {
      const std::int64_t id = routing.ids.data()[t * k + j];
      std::vector<double> a;
      for (std::int64_t i = 0; i < inner; ++i) {
        double gate = w.gate_up_bias.value.data()[id * 2 * inner + i],
               up = w.gate_up_bias.value.data()[id * 2 * inner + inner + i];
        for (std::int64_t c = 0; c < h; ++c) {
          gate += w.gate_up.value.data()[(id * 2 * inner + i) * h + c] * x.data()[t * h + c];
          up += w.gate_up.value.data()[(id * 2 * inner + inner + i) * h + c] * x.data()[t * h + c];
        }
        a.push_back(gate / (1 + std::exp(-gate)) * up);
      }
      for (std::int64_t c = 0; c < h; ++c) {
        double out = w.down_bias.value.data()[id * h + c];
        for (std::int64_t i = 0; i < inner; ++i)
          out += w.down.value.data()[(id * h + c) * inner + i] * a[static_cast<std::size_t>(i)];
        sum[static_cast<std::size_t>(c)] += routing.weights.value.data()[t * k + j] * out;
      }
    }
    CHECK(max_difference(sum.data(), y.value.data() + t * h, static_cast<std::size_t>(h)) < Limits::reduction);
  }
}

TEST_CASE("experts: gradients of router, inputs, weights and biases, experts without tokens included",
          "[autograd][experts]") {
  for (const ExpertActivation activation :
       {ExpertActivation{}, ExpertActivation{true, 1.702, 0.8}, ExpertActivation{false, 1.702, 7.0}})
    for (const bool bias : {false, true})
      for (const std::int64_t tokens : {1, 7}) {
        CAPTURE(activation.interleaved, activation.limit, bias, tokens);
        Set w(4, 3, 6, bias, activation);
        const RouterRule rule{4, 2, !bias};
        if (tokens == 1)  // two experts get nothing: their gradients are never asked for
          for (Weight* p : w.list) p->gradient = Real::zeros(p->value.shape());
        check({random(Shape{tokens, 6}), random(Shape{tokens, 4}, 2), random(Shape{tokens, 6})}, w.list,
              [&](DoubleTape& t, const std::vector<Slot>& x) {
                return experts(t, w.operand, route(t, rule, x[1]), x[0], x[2]);
              });
      }
}

TEST_CASE("gpt-oss's activation gives the published values", "[autograd][experts]") {
  // (gate, up): (8,-9) -> -41.9997188; (1,0.5) -> 1.26869365; (-10,3) -> -1.62318e-06; (0,0) -> 0, with alpha 1.702 and
  // limit 7.
  const double u[] = {8, -9, 1, 0.5, -10, 3, 0, 0}, expected[] = {-41.9997188, 1.26869365, -1.62318e-06, 0};
  double y[4], du[8];
  const double ones[] = {1, 1, 1, 1};
  const ExpertActivation activation{true, 1.702, 7};
  Kernels<Cpu, double>::expert_activation(activation, u, 2, 2, y);
  for (int i = 0; i < 4; ++i) CHECK(std::abs(y[i] - expected[i]) < 1e-7);
  Kernels<Cpu, double>::expert_activation_backward(activation, u, ones, 2, 2, du);
  CHECK(du[0] == 0);
  CHECK(du[1] == 0);
  const double edge[] = {7, 7, 7, -7};
  Kernels<Cpu, double>::expert_activation_backward(activation, edge, ones, 1, 2, du);
  for (int i = 0; i < 4; ++i) CHECK(du[i] == 0);
}

TEST_CASE("add_gated: gradients of gate, input and residual", "[autograd][experts]") {
  check({random(Shape{5, 1}, 2), random(Shape{5, 6}), random(Shape{5, 6})}, {},
        [](DoubleTape& t, const std::vector<Slot>& x) { return add_gated(t, x[0], x[1], x[2]); });
}

TEST_CASE("attention with sinks: the published probabilities, and gradients", "[autograd][experts]") {
  // Scores [1, 2] and sink 0.5: p = 0.23122390, 0.62853172; the sink takes 0.14024438.
  double out[] = {(1 * std::exp(1.0) + 10 * std::exp(2.0)) / (std::exp(1.0) + std::exp(2.0))},
         sum[] = {std::log(std::exp(1.0) + std::exp(2.0))};
  const double sink[] = {0.5};
  Kernels<Cpu, double>::attention_sinks(1, 1, 1, sink, out, sum);
  CHECK(std::abs(out[0] - (0.23122390 + 6.2853172)) < 1e-7);
  CHECK(std::abs(std::exp(0.5 - sum[0]) - 0.14024438) < 1e-8);

  const auto layout = layout_of({7, 1, 4});
  for (const std::int64_t window : {0, 3}) {
    CAPTURE(window);
    Weight sinks = weight("sinks", Shape{4});
    const AttentionHeads heads{4, 2, 6, window, 0.4};
    check({random(Shape{12, 24}), random(Shape{12, 12}), random(Shape{12, 12})}, {&sinks},
          [&](DoubleTape& t, const std::vector<Slot>& x) {
            return attention(t, heads, layout, x[0], x[1], x[2], &sinks);
          });
  }
}

TEST_CASE("experts that share cores: gradients of cores, factors, input and routing", "[autograd][experts]") {
  const std::int64_t n = 7, h = 6, inner = 4, e = 4, k = 2;
  for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
    CAPTURE(static_cast<int>(form));
    const SharedCoreExperts<Cpu, double> cores("mlp.experts", e, h, inner, form, 3);
    std::vector<Weight*> parameters;
    cores.append_parameters(parameters);
    CHECK(parameters.size() == (form == CoreForm::wrappers ? 15u : 9u));
    for (Weight* p : parameters) p->value = random(p->value.shape()), p->trainable = true;
    const auto run = [&](DoubleTape& t, const std::vector<Slot>& x) {
      return cores.forward(t, route(t, RouterRule{e, k, true}, x[1]), x[0], x[2]);
    };
    check({random(Shape{n, h}), random(Shape{n, e}, 2), random(Shape{n, h})}, parameters, run);
    // Frozen parts get nothing, and the others what they got before.
    const std::string kept = form == CoreForm::wrappers ? "mlp.experts.up_shared_core.output_wrapper.V"
                                                        : "mlp.experts.up_shared_core.residual.B";
    for (Weight* p : parameters) p->trainable = p->name == kept, p->gradient.reset();
    DoubleTape tape;
    const Real x = random(Shape{n, h}), logits = random(Shape{n, e}, 2), start = random(Shape{n, h});
    const Slot y = run(tape, {Slot{x, nullptr}, Slot{logits, nullptr}, Slot{start, nullptr}});
    tape.backward(y, random(Shape{n, h}));
    for (Weight* p : parameters) CHECK(static_cast<bool>(p->gradient) == (p->name == kept));
  }
}

TEST_CASE("factors of another size than the rows are refused with the sizes", "[autograd][experts]") {
  Weight up = weight("up", Shape{4, 5, 2}), down = weight("down", Shape{4, 6, 2});
  DoubleTape tape(false);
  const auto routing = route(tape, RouterRule{4, 2, true}, Slot{random(Shape{3, 4}), nullptr});
  CHECK_THROWS_WITH(
      add_low_rank(tape, routing, up, down, Slot{random(Shape{6, 6}), nullptr}, Slot{random(Shape{6, 4}), nullptr}),
      contains("[add_low_rank] x is [6, 6], base [6, 4], up [4, 5, 2], down [4, 6, 2]"));
}
