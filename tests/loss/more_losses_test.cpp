// SPDX-License-Identifier: Apache-2.0
// Skew divergences (D14), total variation, entropy, label smoothing, z-loss: reference values, finite differences,
// exact zeros, limits.
#include "kdlib/io/safetensors.hpp"
#include "loss/row_reference.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// Central differences of the value by every logit, in double.
template <class Loss>
void check_differences(const Loss& loss, const Row& s, const Row& t, const RowInputs& rows = {}) {
  const Row got = run_row<double>(loss, s, t, rows).gradient.row(0);
  Row numeric;
  const double step = Tolerance<double>::difference_step;
  for (std::size_t i = 0; i < s.size(); ++i) {
    Row up = s, down = s;
    up[i] += step, down[i] -= step;
    numeric.push_back((run_row<double>(loss, up, t, rows).value() - run_row<double>(loss, down, t, rows).value()) /
                      (2 * step));
  }
  CHECK(scaled_difference(got.data(), numeric.data(), numeric.size()) < Tolerance<double>::finite_difference);
}

template <class T, class Loss>
void check_reference(const std::string& name, const std::string& loss_name, const Loss& loss) {
  static const SafetensorsFile file(reference_file("losses/losses.safetensors"));
  const TensorInfo& info = file.at(name + ".student");
  const auto rows = static_cast<std::int64_t>(info.extents[0]), columns = static_cast<std::int64_t>(info.extents[1]);
  Logits<T> student(rows, columns), teacher(rows, columns), gradient(rows, columns);
  student.values = read_as<T>(info);
  teacher.values = read_as<T>(file.at(name + ".teacher"));
  const std::vector<std::int64_t> mask = read_as<std::int64_t>(file.at(name + ".mask"));
  const std::vector<float> w(mask.begin(), mask.end());
  const LogitTargets<T, Cpu> targets{std::as_const(teacher).view()};
  const auto all =
      row_loss(loss, std::as_const(student).view(), targets, {}, 1.0, View<T, Cpu>{}, {.row_values = true});
  row_loss(loss, std::as_const(student).view(), targets, {.weights = w}, 1.0, gradient.view());
  const auto compare = [&](const std::string& what, const auto& got, const std::vector<double>& want) {
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(want[i]));
      worst = std::max(worst, std::abs(static_cast<double>(got[i]) - want[i]));
    }
    INFO(name << "." << loss_name << what << ": " << worst << " at magnitude " << largest);
    CHECK(worst <= (std::is_same_v<T, double> ? 1e-10 * std::max(1.0, largest) : 1e-5 * largest + 2e-7));
  };
  compare(".value", all.row_values, read_as<double>(file.at(name + "." + loss_name + ".value")));
  compare(".grad", gradient.values, read_as<double>(file.at(name + "." + loss_name + ".grad")));
}

}  // namespace

TEMPLATE_TEST_CASE("skew divergences and total variation equal PyTorch", "[loss][reference]", double, float) {
  for (const char* name : {"plain", "far", "near", "offset", "tiny"})
    for (const float t : {1.0f, 2.0f}) {
      const std::string end = t == 1 ? ".T1" : ".T2";
      check_reference<TestType>(name, "tvd" + end, TotalVariation{.temperature = t, .t_squared = false});
      check_reference<TestType>(name, "skew_fkl0.1" + end,
                                SkewForwardKl{.lambda = 0.1, .temperature = t, .t_squared = false});
      check_reference<TestType>(name, "skew_fkl0.5" + end,
                                SkewForwardKl{.lambda = 0.5, .temperature = t, .t_squared = false});
      check_reference<TestType>(name, "skew_rkl0.1" + end,
                                SkewReverseKl{.lambda = 0.1, .temperature = t, .t_squared = false});
      check_reference<TestType>(name, "skew_rkl0.5" + end,
                                SkewReverseKl{.lambda = 0.5, .temperature = t, .t_squared = false});
    }
}

TEST_CASE("D14: skew forward KL of the example, its limits and its bound", "[loss]") {
  const Row s = example_student(), t = example_teacher();
  const auto skew = [&](double lambda) { return run_row<double>(SkewForwardKl{.lambda = lambda}, s, t).value(); };
  CHECK(skew(0.1) == Approx(.501957136).epsilon(1e-8));
  CHECK(skew(0) == Approx(.650245281575959).epsilon(1e-12));
  CHECK(skew(1e-9) == Approx(.650245281575959).epsilon(1e-7));
  CHECK(skew(1 - 1e-9) < 1e-8);
  CHECK(run_row<double>(SkewReverseKl{.lambda = 0}, s, t).value() == Approx(.685861055921870).epsilon(1e-12));
  const Row apart = {0, -3000}, other = {-3000, 0};  // disjoint: the bound
  CHECK(run_row<double>(SkewForwardKl{.lambda = 0.1}, apart, other).value() == Approx(2.302585093).epsilon(1e-9));
  CHECK(run_row<float>(SkewReverseKl{.lambda = 0.1}, apart, other).value() == Approx(2.302585093).epsilon(1e-6));
}

TEST_CASE("gradients of the further losses equal finite differences", "[loss]") {
  Normal random(51);
  const Row s = random.row(23, 2), t = random.row(23, 2);
  const std::int32_t label[] = {4};
  const RowInputs rows{.labels = label};
  check_differences(SkewForwardKl{.lambda = 0.3, .temperature = 2}, s, t);
  check_differences(SkewReverseKl{.lambda = 0.05, .temperature = 0.8f}, s, t);
  check_differences(TotalVariation{.temperature = 1.5f}, s, t);
  check_differences(NegativeEntropy{.temperature = 2}, s, t);
  check_differences(UniformCrossEntropy{}, s, t);
  check_differences(ZLoss{}, s, t);
  check_differences(label_smoothing(0.1), s, t, rows);
  check_differences(
      Sum{Term{1, CrossEntropy{}}, Term{1e-1, ZLoss{}}, Term{0.05, NegativeEntropy{}}, Term{0.4, SkewForwardKl{}}}, s,
      t, rows);
  check_differences(Sum{Term{1, ForwardKl{.temperature = 2}}, Term{1e-1, ZLoss{}}}, s, t, rows);
}

TEMPLATE_TEST_CASE("the further divergences are exactly 0 at p = q", "[loss]", double, float, bf16) {
  Normal random(52);
  for (const std::int64_t v : {2, 33, 3000}) {
    const Logits<TestType> z({random.row(v, 4)});
    const auto zero = [&](const auto& loss) {
      const auto got = run_rows(loss, z, z);
      CHECK(got.result.loss.sum == 0);
      for (const TestType g : got.gradient.values) REQUIRE(static_cast<double>(g) == 0);
    };
    zero(SkewForwardKl{});
    zero(SkewReverseKl{.lambda = 0.7});
    zero(TotalVariation{});
  }
}

TEST_CASE("label smoothing and z-loss have the values of their formulas in float", "[loss]") {
  Normal random(53);
  const Row s = random.row(500, 2);
  const Row a = log_softmax(s);
  const std::int32_t label[] = {7};
  double uniform = 0, lse = s[0] - a[0];
  for (const double x : a) uniform -= x / 500;
  CHECK(run_row<float>(label_smoothing(0.2), s, s, {.labels = label}).value() ==
        Approx(-0.8 * a[7] + 0.2 * uniform).epsilon(1e-5));
  CHECK(run_row<float>(ZLoss{}, s, s).value() == Approx(lse * lse).epsilon(1e-5));
  CHECK_THROWS_AS(run_row<float>(SkewForwardKl{.lambda = 1}, s, s), ConfigError);
}
