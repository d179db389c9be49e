// SPDX-License-Identifier: Apache-2.0
// Every function of the tape against central differences in double, with random weights on the result.
#include "check.hpp"

#include "kdlib/nn/rope_table.hpp"
#include "kdlib/quant/coded_matrix.hpp"

using namespace kdlib_tests;

TEST_CASE("embedding: gradient of rows that occur once, twice and never", "[autograd]") {
  Weight table = weight("table", Shape{6, 5});
  const auto layout = layout_of({4}, {2, 0, 2, 5});
  check({}, {&table}, [&](DoubleTape& t, const std::vector<Slot>&) { return embedding(t, table, layout); });
  for (int i = 0; i < 5; ++i) CHECK(table.gradient.data()[5 + i] == 0);
}

TEST_CASE("linear: gradients with and without bias, residual and LoRA", "[autograd]") {
  for (const bool bias : {false, true})
    for (const bool residual : {false, true})
      for (const bool lora : {false, true}) {
        CAPTURE(bias, residual, lora);
        Weight w = weight("w", Shape{7, 5}), b = weight("b", Shape{7}), a2 = weight("A", Shape{3, 5}),
               b2 = weight("B", Shape{7, 3});
        LinearOperand<double, Cpu> o;
        o.weight = &w;
        std::vector<Weight*> list = {&w};
        if (bias) o.bias = &b, list.push_back(&b);
        if (lora) o.lora_a = &a2, o.lora_b = &b2, o.lora_scale = 0.7, list.insert(list.end(), {&a2, &b2});
        std::vector<Real> inputs = {random(Shape{4, 5})};
        if (residual) inputs.push_back(random(Shape{4, 7}));
        check(inputs, list, [&](DoubleTape& t, const std::vector<Slot>& x) {
          return linear(t, o, x[0], residual ? &x[1] : nullptr);
        });
      }
}

TEST_CASE("linear on packed weights: gradients of the input and of LoRA for few and many rows", "[autograd]") {
  const Real w = random(Shape{9, 8});
  const std::vector<float> plain(w.data(), w.data() + w.count());
  const CodedMatrix<double, Cpu> packed(
      encode_weights(plain.data(), 9, 8, {.group_size = 4, .rule = Int4Rule::affine}));
  for (const std::int64_t rows : {3, 30}) {
    Weight a = weight("A", Shape{2, 8}), b = weight("B", Shape{9, 2});
    LinearOperand<double, Cpu> o;
    o.packed = &packed;
    o.lora_a = &a;
    o.lora_b = &b;
    o.lora_scale = 2;
    check({random(Shape{rows, 8})}, {&a, &b},
          [&](DoubleTape& t, const std::vector<Slot>& x) { return linear(t, o, x[0]); });
  }
}

TEST_CASE("rms_norm: gradients over rows and over heads of a row", "[autograd]") {
  for (const std::int64_t width : {12, 4}) {
    Weight w = weight("w", Shape{width});
    check({random(Shape{5, 12})}, {&w},
          [&](DoubleTape& t, const std::vector<Slot>& x) { return rms_norm(t, w, x[0], 1e-5); });
  }
  Weight offset = weight("offset", Shape{4});
  Real ones(Shape{6});
  std::fill(ones.data(), ones.data() + 6, 1.0);
  check({random(Shape{5, 12})}, {&offset},
        [&](DoubleTape& t, const std::vector<Slot>& x) { return rms_norm(t, offset, x[0], 1e-5, ones); });
  Weight w = weight("w", Shape{4});
  check({Real::zeros(Shape{2, 4})}, {&w},
        [&](DoubleTape& t, const std::vector<Slot>& x) { return rms_norm(t, w, x[0], 1e-2); });
}

TEST_CASE("rope: gradient is the transposed rotation, a scaled one too", "[autograd]") {
  RopeSettings settings;
  settings.kind = RopeScalingKind::yarn;
  settings.factor = 4;
  settings.original_length = 8;
  const auto table = make_rope_table<Cpu, double>(settings, 6, 16);
  const auto layout = layout_of({3, 5});
  check({random(Shape{8, 12})}, {},
        [&](DoubleTape& t, const std::vector<Slot>& x) { return rope(t, x[0], table, layout, 6); });
}

TEST_CASE("rope rotates the published vector", "[autograd]") {
  RopeSettings settings;  // d = 4, theta = 10000, position 1, x = [1, 2, 3, 4]
  const auto table = make_rope_table<Cpu, double>(settings, 4, 2);
  auto layout = layout_of({1});
  layout.positions.data()[0] = 1;
  DoubleTape tape(false);
  Real x(Shape{1, 4});
  for (int i = 0; i < 4; ++i) x.data()[i] = i + 1;
  const Slot y = rope(tape, tape.variable(x, false), table, layout, 4);
  const double expected[] = {-1.9841106, 1.9599007, 2.4623779, 4.0197997};
  for (int i = 0; i < 4; ++i) CHECK(std::abs(y.value.data()[i] - expected[i]) < 5e-8);  // eight digits are printed
}

TEST_CASE("attention: gradients over ragged documents, grouped heads and a window", "[autograd]") {
  const auto layout = layout_of({1, 70, 6});  // 70 spans two blocks of queries
  for (const std::int64_t window : {0, 1, 5, 66}) {
    CAPTURE(window);
    const AttentionHeads heads{4, 2, 4, window, 0.5};
    check({random(Shape{77, 16}), random(Shape{77, 8}), random(Shape{77, 8})}, {},
          [&](DoubleTape& t, const std::vector<Slot>& x) { return attention(t, heads, layout, x[0], x[1], x[2]); });
  }
}

TEST_CASE("attention with soft caps: gradients", "[autograd]") {
  const auto layout = layout_of({1, 66});  // 66 spans two blocks of queries
  for (const std::int64_t window : {0, 5}) {
    CAPTURE(window);
    const AttentionHeads heads{2, 1, 4, window, 0.5, 0.7};
    check({random(Shape{67, 8}), random(Shape{67, 4}), random(Shape{67, 4})}, {},
          [&](DoubleTape& t, const std::vector<Slot>& x) { return attention(t, heads, layout, x[0], x[1], x[2]); });
  }
}

TEST_CASE("attention equals the plain formula and never looks across documents", "[autograd]") {
  const auto layout = layout_of({3, 70});
  const AttentionHeads heads{2, 1, 4, 7, 0.3};
  DoubleTape tape(false);
  const Real q = random(Shape{73, 8}, 3), k = random(Shape{73, 4}, 3), v = random(Shape{73, 4});
  const Slot y =
      attention(tape, heads, layout, tape.variable(q, false), tape.variable(k, false), tape.variable(v, false));
  for (std::int64_t t = 0; t < 73; ++t)
    for (std::int64_t h = 0; h < 2; ++h) {
      const std::int64_t start = t < 3 ? 0 : 3, first = std::max(start, t - 6);
      std::vector<double> e;
      double sum = 0;
      for (std::int64_t s = first; s <= t; ++s) {
        double dot = 0;
        for (int i = 0; i < 4; ++i) dot += q.data()[t * 8 + h * 4 + i] * k.data()[s * 4 + i];
        e.push_back(std::exp(0.3 * dot));
        sum += e.back();
      }
      for (int i = 0; i < 4; ++i) {
        double o = 0;
        for (std::int64_t s = first; s <= t; ++s)
          o += e[static_cast<std::size_t>(s - first)] / sum * v.data()[s * 4 + i];
        REQUIRE(kdlib_tests::near(y.value.data()[t * 8 + h * 4 + i], o, Tolerance<double>::reduction));
      }
    }
}

TEST_CASE("swiglu, gated_down and add: gradients", "[autograd]") {
  check({random(Shape{3, 11}, 4), random(Shape{3, 11})}, {},
        [](DoubleTape& t, const std::vector<Slot>& x) { return swiglu(t, x[0], x[1]); });
  Weight w = weight("w", Shape{5, 11}), a = weight("A", Shape{2, 11}), b = weight("B", Shape{5, 2});
  LinearOperand<double, Cpu> o;
  o.weight = &w;
  o.lora_a = &a;
  o.lora_b = &b;
  o.lora_scale = 1.5;
  for (const GateActivation activation : {GateActivation::silu, GateActivation::gelu_tanh}) {
    for (Weight* p : {&w, &a, &b}) p->zero_gradient();
    check({random(Shape{3, 11}, 4), random(Shape{3, 11}), random(Shape{3, 5})}, {&w, &a, &b},
          [&](DoubleTape& t, const std::vector<Slot>& x) { return gated_down(t, o, x[0], x[1], &x[2], activation); });
    for (Weight* p : {&w, &a, &b}) p->zero_gradient();
    check({random(Shape{3, 11}, 4), random(Shape{3, 11})}, {&w, &a, &b},
          [&](DoubleTape& t, const std::vector<Slot>& x) { return gated_down(t, o, x[0], x[1], nullptr, activation); });
  }
  check({random(Shape{3, 4})}, {}, [](DoubleTape& t, const std::vector<Slot>& x) { return scaled(t, x[0], 2.5); });
  check({random(Shape{3, 4}), random(Shape{3, 4})}, {},
        [](DoubleTape& t, const std::vector<Slot>& x) { return add(t, x[0], x[1]); });
  check({random(Shape{3, 4})}, {}, [](DoubleTape& t, const std::vector<Slot>& x) { return add(t, x[0], x[0]); });
}

TEST_CASE("recompute gives the gradients of the recorded function", "[autograd]") {
  Weight w = weight("w", Shape{6, 6}), n = weight("n", Shape{6});
  LinearOperand<double, Cpu> o;
  o.weight = &w;
  const auto body = [&](DoubleTape& t, const Slot& x) {
    const Slot y = linear(t, o, rms_norm(t, n, x, 1e-5), &x);
    return swiglu(t, y, y);
  };
  check({random(Shape{4, 6})}, {&w, &n},
        [&](DoubleTape& t, const std::vector<Slot>& x) { return recompute(t, x[0], true, body); });
  w.gradient.reset();
  n.gradient.reset();
  check({random(Shape{4, 6})}, {&w, &n}, [&](DoubleTape& t, const std::vector<Slot>& x) {
    return recompute(t, recompute(t, x[0], true, body), true, body);
  });
}

TEST_CASE("what is frozen records nothing and gets no gradient", "[autograd]") {
  Weight w = weight("w", Shape{4, 4});
  w.trainable = false;
  LinearOperand<double, Cpu> o;
  o.weight = &w;
  DoubleTape tape;
  const Slot x = tape.variable(random(Shape{2, 4}), false);
  CHECK_FALSE(linear(tape, o, x).requires_gradient());
  CHECK(tape.size() == 0);
  const Slot y = tape.variable(random(Shape{2, 4}), true);
  const Slot z = linear(tape, o, y);
  CHECK(tape.size() == 1);
  tape.backward(z, random(Shape{2, 4}));
  CHECK_FALSE(static_cast<bool>(w.gradient));
  CHECK_THROWS_AS(tape.backward(x, random(Shape{2, 4})), ShapeError);
  CHECK_THROWS_AS(linear(tape, o, tape.variable(random(Shape{2, 3}), false)), ShapeError);
}
