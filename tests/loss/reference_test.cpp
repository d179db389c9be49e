// SPDX-License-Identifier: Apache-2.0
// Values and gradients that PyTorch and TRL computed (tests/reference/losses/README.md), in double and in float.
#include <map>
#include <string>

#include "kdlib/io/safetensors.hpp"
#include "loss/row_reference.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

const SafetensorsFile& file() {
  static const SafetensorsFile f(reference_file("losses/losses.safetensors"));
  return f;
}
template <class X>
std::vector<X> read(const std::string& name) {
  return read_as<X>(file().at(name));
}

template <class T>
double tolerance_of(double magnitude) {
  return std::is_same_v<T, double> ? 1e-10 * std::max(1.0, magnitude) : 1e-5 * magnitude + 2e-7;
}

/// T: what was computed in; the numbers may be kept in another type.
template <class T, class X>
void compare(const std::string& name, const X* got, const std::vector<double>& want) {
  double largest = 0, worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    largest = std::max(largest, std::abs(want[i]));
    const double d = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(d <= worst)) worst = d;
  }
  INFO(name << ": largest difference " << worst << " at magnitude " << largest);
  CHECK(worst <= tolerance_of<T>(largest));
}

/// One loss at one temperature on one case: row values and the gradient of the sum over rows of mask 1.
template <class T, class Loss>
void check(const std::string& name, const std::string& loss_name, const Loss& loss) {
  const TensorInfo& info = file().at(name + ".student");
  const auto rows = static_cast<std::int64_t>(info.extents[0]), columns = static_cast<std::int64_t>(info.extents[1]);
  Logits<T> student(rows, columns), teacher(rows, columns), gradient(rows, columns);
  student.values = read<T>(name + ".student");
  teacher.values = read<T>(name + ".teacher");
  const std::vector<std::int64_t> labels = read<std::int64_t>(name + ".labels"),
                                  mask = read<std::int64_t>(name + ".mask");
  const std::vector<std::int32_t> y(labels.begin(), labels.end());
  const std::vector<float> w(mask.begin(), mask.end());
  const LogitTargets<T, Cpu> targets{teacher.view()};
  const auto all = row_loss(loss, student.view(), targets, {.labels = y}, 1.0, View<T, Cpu>{}, {.row_values = true});
  compare<T>(name + "." + loss_name + ".value", all.row_values.data(), read<double>(name + "." + loss_name + ".value"));
  row_loss(loss, student.view(), targets, {.labels = y, .weights = w}, 1.0, gradient.view());
  compare<T>(name + "." + loss_name + ".grad", gradient.values.data(), read<double>(name + "." + loss_name + ".grad"));
}

template <class T>
void check_case(const std::string& name) {
  for (const float t : {1.0f, 2.0f}) {
    const std::string end = t == 1 ? ".T1" : ".T2";
    check<T>(name, "ce" + end, CrossEntropy{.temperature = t, .t_squared = false});
    check<T>(name, "fkl" + end, ForwardKl{.temperature = t, .t_squared = false});
    check<T>(name, "rkl" + end, ReverseKl{.temperature = t, .t_squared = false});
    for (const auto& [text, beta] : std::map<std::string, double>{{"jsd0.1", 0.1}, {"jsd0.5", 0.5}, {"jsd0.9", 0.9}})
      check<T>(name, text + end, JensenShannon{.beta = beta, .temperature = t, .t_squared = false});
  }
}

/// head_loss on the fused cases: float32 of the reference itself, tolerance 1e-6 in double.
template <class T>
void check_fused(double beta, float temperature, const std::string& key) {
  const auto tensor = [](const std::string& name) {
    const TensorInfo& info = file().at(name);
    Tensor<T, Cpu> t(info.shape());
    read_as<T>(info, std::span<T>(t.data(), static_cast<std::size_t>(t.count())));
    return t;
  };
  const Tensor<T, Cpu> hidden = tensor("fused.student_hidden"), teacher_hidden = tensor("fused.teacher_hidden"),
                       teacher_head = tensor("fused.teacher_head");
  Parameter<T, Cpu> head{
      .name = "lm_head.weight", .value = tensor("fused.student_head"), .gradient = {}, .trainable = true};
  const std::vector<float> weights = read<float>("fused.row_weight");
  const HiddenTargets<T, Cpu> targets{teacher_hidden.view(), {.weight = teacher_head.view()}};
  Tensor<T, Cpu> gradient(hidden.shape());
  const JensenShannon loss{.beta = beta, .temperature = temperature, .t_squared = false};
  const HeadView<T, Cpu> student{.weight = std::as_const(head.value).view()};
  const auto result = head_loss(loss, student, hidden.view(), targets, {.weights = weights}, 1.0, gradient.view(),
                                &head, {.workspace_bytes = 4 * 211 * 16});
  const auto values = head_loss(loss, student, hidden.view(), targets, {}, 1.0, View<T, Cpu>{}, nullptr,
                                {.metrics = true, .row_values = true});
  const auto near = [&](const std::string& what, const T* got,
                        const std::vector<double>& want) {  // the reference was made in float32
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(want[i]));
      worst = std::max(worst, std::abs(static_cast<double>(got[i]) - want[i]));
    }
    INFO(key << what << ": " << worst << " at magnitude " << largest);
    CHECK(worst <= 2e-6 * std::max(1.0, largest));
  };
  near(".grad_hidden", gradient.data(), read<double>(key + ".grad_hidden"));
  near(".grad_head", head.gradient.data(), read<double>(key + ".grad_head"));
  const std::vector<double> want = read<double>(key + ".value"), entropy = read<double>(key + ".student_entropy");
  double sum = 0, entropies = 0;
  for (std::size_t r = 0; r < want.size(); ++r) {
    CHECK(std::abs(values.row_values[r] - want[r]) <= 2e-6 * std::max(1.0, want[r]));
    sum += static_cast<double>(weights[r]) * want[r];
    entropies += entropy[r];
  }
  CHECK(result.loss.sum == Approx(sum).epsilon(2e-6));
  if (temperature == 1) CHECK(values.metrics.student_entropy == Approx(entropies).epsilon(2e-6));
  const NegativeEntropy negative{.temperature = temperature,
                                 .t_squared = false};  // the metrics are those at T = 1: the loss tells it at T = 2
  const auto again =
      head_loss(negative, student, hidden.view(), NoTargets{}, {}, 1.0, View<T, Cpu>{}, nullptr, {.row_values = true});
  for (std::size_t r = 0; r < want.size(); ++r)
    CHECK(std::abs(again.row_values[r] + entropy[r]) <= 2e-6 * std::max(1.0, entropy[r]));
}

}  // namespace

TEMPLATE_TEST_CASE("losses equal PyTorch and TRL on ordinary logits", "[loss][reference]", double, float) {
  check_case<TestType>("plain");
}
TEMPLATE_TEST_CASE("losses equal PyTorch and TRL on a peaked, distant teacher", "[loss][reference]", double, float) {
  check_case<TestType>("far");
}
TEMPLATE_TEST_CASE("losses equal PyTorch and TRL late in training", "[loss][reference]", double, float) {
  check_case<TestType>("near");
}
TEMPLATE_TEST_CASE("losses equal PyTorch and TRL on logits with large offsets", "[loss][reference]", double, float) {
  check_case<TestType>("offset");
}
TEMPLATE_TEST_CASE("losses equal PyTorch and TRL on two entries", "[loss][reference]", double, float) {
  check_case<TestType>("tiny");
}

TEMPLATE_TEST_CASE("the fused pass equals TRL's chunked divergence", "[loss][reference]", double, float) {
  for (const auto& [beta, text] : std::map<double, std::string>{{0.0, "0"}, {1.0, "1"}, {0.5, "0.5"}, {0.1, "0.1"}})
    for (const float t : {1.0f, 2.0f}) check_fused<TestType>(beta, t, "fused.beta" + text + (t == 1 ? ".T1" : ".T2"));
}
