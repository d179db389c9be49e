// SPDX-License-Identifier: Apache-2.0
// HeadLossSettings::gradient_threshold: which blocks are left out, what that does to the gradients, and what it does
// not touch.
#include <limits>

#include "kdlib/quant/stored_matrix.hpp"
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

constexpr std::int64_t V = 515, H = 12, group = 128;

/// Two heads over one vocabulary. The first `likely` ids have the mass of every row, the more so the larger `bias` is.
struct Heads {
  std::int64_t rows;
  std::vector<double> hidden, teacher_hidden, head, teacher_head, bias;
  std::vector<float> weights;

  Heads(std::int64_t count, double likely_bias, std::int64_t likely = 60) : rows(count) {
    Normal random(7);
    const auto fill = [&](std::vector<double>& x, std::int64_t n, double deviation) {
      for (std::int64_t i = 0; i < n; ++i) x.push_back(double(float(bf16(float(deviation * random())))));
    };
    fill(hidden, rows * H, 1), fill(teacher_hidden, rows * H, 1);
    fill(head, V * H, 0.6), fill(teacher_head, V * H, 0.6);
    for (std::int64_t j = 0; j < V; ++j) bias.push_back(j < likely ? likely_bias : 0);
    for (std::int64_t r = 0; r < rows; ++r) weights.push_back(r % 7 == 3 ? 0.0f : static_cast<float>(0.5 + r % 3));
  }
};

template <class T>
Tensor<T, Cpu> as(const std::vector<double>& x, Shape shape) {
  Tensor<T, Cpu> out(shape);
  for (std::int64_t i = 0; i < out.count(); ++i)
    out.data()[i] = static_cast<T>(static_cast<float>(x[static_cast<std::size_t>(i)]));
  return out;
}

struct Got {
  HeadLossResult result;
  std::vector<double> hidden, head;  // gradients
};

/// The fused pass in T. `chunk`: rows. `packed`: the student's head lies in the blocks of a file, frozen.
template <class T>
Got run(const Heads& p, double threshold, std::int64_t chunk = 1 << 20, bool metrics = true, bool packed = false) {
  const auto x = as<T>(p.hidden, {p.rows, H}), xt = as<T>(p.teacher_hidden, {p.rows, H});
  const auto w = as<T>(p.teacher_head, {V, H}), b = as<T>(p.bias, {V});
  Parameter<T, Cpu> head{.name = "head", .value = as<T>(p.head, {V, H}), .gradient = {}, .trainable = true};
  Tensor<T, Cpu> gradient({p.rows, H});
  HeadView<T, Cpu> student{.weight = std::as_const(head.value).view(), .bias = b.view()};
  const std::vector<bf16> codes(p.head.begin(), p.head.end());
  StoredParts parts;
  parts.type = GgufType::bf16;
  parts.parts = {reinterpret_cast<const std::byte*>(codes.data())};
  parts.rows = V, parts.columns = H;
  const StoredMatrix<T, Cpu> stored(parts, nullptr);
  if (packed) student.packed = &stored, student.weight = {nullptr, {V, H}};
  const HiddenTargets<T, Cpu> targets{xt.view(), {.weight = w.view(), .bias = b.view()}};
  Got got;
  got.result = head_loss(ForwardKl{}, student, x.view(), targets, RowInputs{.weights = p.weights}, 0.01,
                         gradient.view(), packed ? nullptr : &head,
                         {.workspace_bytes = chunk * V * 2 * static_cast<std::int64_t>(sizeof(logit_t<Cpu, T>)),
                          .metrics = metrics,
                          .row_values = true,
                          .gradient_threshold = threshold});
  for (std::int64_t i = 0; i < gradient.count(); ++i) got.hidden.push_back(double(gradient.data()[i]));
  for (std::int64_t i = 0; i < V * H && !packed; ++i) got.head.push_back(double(head.gradient_view().data()[i]));
  return got;
}

/// What the threshold must give, from the whole gradient of the logits in double.
struct Expected {
  std::vector<double> hidden, head, bound;  // bound[r]: of a row's missing part
  double skipped = 0, weight = 0;           // weighted share of blocks
};
Expected expected(const Heads& p, double threshold, std::int64_t chunk) {
  Tensor<double, Cpu> s({p.rows, V}), t({p.rows, V}), g({p.rows, V});
  for (std::int64_t r = 0; r < p.rows; ++r)
    for (std::int64_t j = 0; j < V; ++j) {
      double a = p.bias[std::size_t(j)], b = a;
      for (std::int64_t h = 0; h < H; ++h) {
        a += p.hidden[std::size_t(r * H + h)] * p.head[std::size_t(j * H + h)];
        b += p.teacher_hidden[std::size_t(r * H + h)] * p.teacher_head[std::size_t(j * H + h)];
      }
      s.data()[r * V + j] = a, t.data()[r * V + j] = b;
    }
  row_loss(ForwardKl{}, std::as_const(s).view(), LogitTargets<double, Cpu>{std::as_const(t).view()},
           RowInputs{.weights = p.weights}, 0.01, g.view());
  std::vector<std::int64_t> rows;
  for (std::int64_t r = 0; r < p.rows; ++r)
    if (p.weights[std::size_t(r)] != 0) rows.push_back(r);
  const auto count = static_cast<std::int64_t>(rows.size());
  chunk = head_loss_chunk(count, V, 1, 1, chunk * V);
  Expected out{std::vector<double>(std::size_t(p.rows * H)), std::vector<double>(std::size_t(V * H)),
               std::vector<double>(std::size_t(p.rows)), 0, 0};
  for (std::int64_t first = 0, end = 0; first < count; first = end) {
    end = std::min({count, first + group, (first / chunk + 1) * chunk});
    std::vector<bool> kept(std::size_t(V), false);
    std::vector<double> largest(std::size_t(p.rows));
    std::int64_t left_out = 0;
    for (std::int64_t i = first; i < end; ++i) {
      const double* row = g.data() + rows[std::size_t(i)] * V;
      for (std::int64_t j = 0; j < V; ++j)
        largest[std::size_t(i)] = std::max(largest[std::size_t(i)], std::abs(row[j]));
      for (std::int64_t j = 0; j < V; ++j)
        if (std::abs(row[j]) >= threshold * largest[std::size_t(i)]) kept[std::size_t(j)] = true;
    }
    for (const bool k : kept) left_out += k ? 0 : 1;
    const bool all = 4 * left_out < V;
    for (std::int64_t i = first; i < end; ++i) {
      const auto r = static_cast<std::size_t>(rows[std::size_t(i)]);
      const double w = double(p.weights[r]);
      out.weight += w, out.skipped += all ? 0 : w * double(left_out) / double(V);
      for (std::size_t j = 0; j < std::size_t(V); ++j) {
        const double entry = g.data()[r * std::size_t(V) + j];
        double norm = 0;
        for (std::size_t h = 0; h < std::size_t(H); ++h) {
          norm += p.head[j * H + h] * p.head[j * H + h];
          if (!all && !kept[j]) continue;
          out.hidden[r * H + h] += entry * p.head[j * H + h];
          out.head[j * H + h] += entry * p.hidden[r * H + h];
        }
        if (!all && !kept[j]) out.bound[r] += threshold * largest[std::size_t(i)] * std::sqrt(norm);
      }
    }
  }
  return out;
}

double relative(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) error += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
  return std::sqrt(error / norm);
}

}  // namespace

TEMPLATE_TEST_CASE("gradient_threshold leaves out the blocks that lie below it, and no others", "[loss][threshold]",
                   double, float, bf16) {
  const double tolerance = std::is_same_v<TestType, double> ? 1e-12 : std::is_same_v<TestType, float> ? 2e-5 : 8e-3;
  for (const double bias : {6.0, 12.0})
    for (const std::int64_t chunk : {1 << 20, 150, 1})
      for (const double threshold : {1e-3, 1e-2, 0.3}) {
        const Heads p(300, bias);
        const Got whole = run<TestType>(p, 0, chunk), got = run<TestType>(p, threshold, chunk);
        const Expected want = expected(p, threshold, chunk);
        INFO("bias " << bias << " chunk " << chunk << " threshold " << threshold);
        CHECK(got.result.loss.sum == whole.result.loss.sum);
        CHECK(got.result.row_values == whole.result.row_values);
        CHECK(got.result.metrics.forward_kl == whole.result.metrics.forward_kl);
        CHECK(whole.result.metrics.threshold_weight == 0);
        CHECK(got.result.metrics.threshold_weight == Approx(want.weight));
        const double slack = std::is_same_v<TestType, double> ? 1e-12 : 0.01;  // entries beside the threshold
        CHECK(std::abs(got.result.metrics.skipped_blocks - want.skipped) <= slack * want.weight);
        CHECK(relative(got.hidden, want.hidden) < tolerance);
        CHECK(relative(got.head, want.head) < tolerance);
        for (std::size_t r = 0; r < std::size_t(p.rows); ++r) {
          double error = 0, norm = 0;
          for (std::size_t h = 0; h < std::size_t(H); ++h) {
            error += std::pow(got.hidden[r * H + h] - whole.hidden[r * H + h], 2);
            norm += std::pow(whole.hidden[r * H + h], 2);
          }
          CHECK(std::sqrt(error) <= 1.01 * want.bound[r] + tolerance * std::sqrt(norm));
        }
        if (threshold == 0.3) CHECK(want.skipped > 0.5 * want.weight);  // else nothing was tested
      }
}

TEST_CASE("a threshold that nothing lies below changes no bit of a chunk of one group", "[loss][threshold]") {
  const Heads p(100, 0);
  const Got whole = run<float>(p, 0), got = run<float>(p, 1e-30);
  CHECK(got.hidden == whole.hidden);
  CHECK(got.head == whole.head);
  CHECK(got.result.metrics.skipped_blocks == 0);
  const Got again = run<float>(p, 0.3), twice = run<float>(p, 0.3);
  CHECK(again.hidden == twice.hidden);
  CHECK(again.head == twice.head);
}

TEMPLATE_TEST_CASE("of a packed head only the rows that are kept are decoded into the product", "[loss][threshold]",
                   float, bf16) {
  const Heads p(300, 12);
  const double tolerance = std::is_same_v<TestType, float> ? 2e-5 : 8e-3;
  const Got got = run<TestType>(p, 0.01, 150, true, true), dense = run<TestType>(p, 0.01, 150);
  CHECK(relative(got.hidden, dense.hidden) < tolerance);
  CHECK(relative(got.hidden, expected(p, 0.01, 150).hidden) < tolerance);
  CHECK(got.result.metrics.skipped_blocks > 0.3 * got.result.metrics.threshold_weight);
}

TEST_CASE("rows without a gradient and rows of NaN are as they were without a threshold", "[loss][threshold]") {
  Heads equal(40, 12);
  equal.teacher_hidden = equal.hidden, equal.teacher_head = equal.head;  // p = q: the gradient is exactly 0
  for (const double g : run<float>(equal, 0.1).hidden) CHECK(g == 0);
  for (const double g : run<float>(equal, 0.1).head) CHECK(g == 0);
  CHECK(run<float>(equal, 0.1).result.metrics.skipped_blocks > 0);

  Heads broken(40, 12);
  broken.hidden[5 * H] = std::numeric_limits<double>::quiet_NaN();
  const Got got = run<float>(broken, 0.3), whole = run<float>(broken, 0);
  for (std::size_t i = 0; i < got.hidden.size(); ++i) {
    const bool row = i / H == 5;
    CHECK(std::isnan(got.hidden[i]) == row);
    CHECK((row || got.hidden[i] == whole.hidden[i]));
  }
  for (const double g : got.head) CHECK(std::isnan(g));
}

TEST_CASE("the share of blocks comes with the metrics alone, and thresholds outside of [0, 1) are refused",
          "[loss][threshold]") {
  const Heads p(20, 12);
  CHECK(run<float>(p, 0.1, 1 << 20, false).result.metrics.threshold_weight == 0);
  for (const double bad : {-1e-9, 1.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_WITH(run<float>(p, bad), contains("gradient_threshold") && contains("[0, 1)"));
}
