// SPDX-License-Identifier: Apache-2.0
// head_loss with each kind of target on a device D against the same on the CPU in double.
#ifndef KDLIB_TESTS_CUDA_TARGET_CASES_HPP
#define KDLIB_TESTS_CUDA_TARGET_CASES_HPP

#include <utility>

#include "loss/row_reference.hpp"

namespace kdlib_tests {

/// Numbers on the device D, rounded to T.
template <class T, class D>
class Placed {
 public:
  explicit Placed(const std::vector<double>& from) : buffer_(static_cast<std::int64_t>(from.size())) {
    std::vector<T> host;
    for (const double x : from) host.push_back(static_cast<T>(x));
    kdlib::Memory<D>::from_host(buffer_.data(), host.data(), host.size() * sizeof(T));
  }
  T* data() const { return buffer_.data(); }
  std::vector<double> host() const {
    std::vector<T> out(static_cast<std::size_t>(buffer_.count()));
    kdlib::Memory<D>::to_host(out.data(), buffer_.data(), out.size() * sizeof(T));
    return std::vector<double>(out.begin(), out.end());
  }

 private:
  kdlib::Buffer<T, D> buffer_;
};

/// One batch: N rows, some of weight 0, V ids, hidden sizes of both models. All numbers have few bits, so that T holds
/// them.
struct TargetBatch {
  static constexpr std::int64_t n = 5, v = 41, h = 6, teacher_h = 4, k = 4;
  std::vector<double> hidden, weight, bias, teacher_hidden, teacher_weight, teacher_logits, log_probs, log_tail,
      zeros = std::vector<double>(n * h, 0.0);
  std::vector<std::int32_t> labels = {3, 0, 40, 11, 7}, ids;
  std::vector<float> weights = {1, 0, 0.5f, 2, 1}, sampled = {-1, -2, -0.5f, -3, -4},
                     behaviour = {-2, -1, -1.5f, -3, -0.5f};

  TargetBatch() {
    Normal random(17);
    const auto fill = [&](std::vector<double>& x, std::int64_t count, double step) {
      for (std::int64_t i = 0; i < count; ++i) x.push_back(std::round(random() / step) * step);
    };
    fill(hidden, n * h, 0.125), fill(weight, v * h, 0.125), fill(bias, v, 0.25),
        fill(teacher_hidden, n * teacher_h, 0.125), fill(teacher_weight, v * teacher_h, 0.125);
    fill(teacher_logits, n * v, 0.25);
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t i = 0; i < k; ++i)
        ids.push_back(i == 2 ? -1 : static_cast<std::int32_t>((r * 11 + i * 7) % v)),
            log_probs.push_back(-1.5 - 0.25 * static_cast<double>(i));
      log_tail.push_back(-1.0);
    }
  }
  kdlib::RowInputs rows() const { return {.labels = labels, .weights = weights, .behaviour_log_probs = behaviour}; }
};

struct TargetResult {
  kdlib::HeadLossResult result;
  std::vector<double> hidden_gradient, head_gradient;
};

/// make(batch, keep) gives the targets; softcap, bias and scale of the student's head are on.
template <class T, class D, class Loss, class Make>
TargetResult run_targets(const Loss& loss, const TargetBatch& b, Make&& make) {
  using namespace kdlib;
  const Placed<T, D> hidden(b.hidden), bias(b.bias), gradient(b.zeros);
  Parameter<T, D> head;
  head.value = Tensor<T, D>({b.v, b.h});
  std::vector<T> host;
  for (const double x : b.weight) host.push_back(static_cast<T>(x));
  Memory<D>::from_host(head.value.data(), host.data(), host.size() * sizeof(T));
  const HeadView<T, D> view{
      .weight = std::as_const(head.value).view(), .bias = {bias.data(), {b.v}}, .softcap = 8, .logit_scale = 0.5f};
  TargetResult out;
  out.result = head_loss(
      loss, view, View<const T, D>{hidden.data(), {b.n, b.h}}, make(), b.rows(), 0.25,
      View<T, D>{gradient.data(), {b.n, b.h}}, &head,
      {.workspace_bytes = 3 * b.v * static_cast<std::int64_t>(sizeof(T)), .metrics = true, .row_values = true});
  out.hidden_gradient = gradient.host();
  std::vector<gradient_t<T>> head_gradient(host.size());
  Memory<D>::to_host(head_gradient.data(), head.gradient_view().data(), host.size() * sizeof(gradient_t<T>));
  out.head_gradient.assign(head_gradient.begin(), head_gradient.end());
  return out;
}

template <class T>
void check_same(const TargetResult& got, const TargetResult& want) {
  const double tolerance = Tolerance<T>::loss;
  CHECK(std::abs(got.result.loss.sum - want.result.loss.sum) <=
        tolerance * std::max(1.0, std::abs(want.result.loss.sum)));
  CHECK(got.result.loss.weight == want.result.loss.weight);
  CHECK(got.result.metrics.weight == want.result.metrics.weight);
  CHECK(got.result.metrics.student_entropy == Approx(want.result.metrics.student_entropy).margin(20 * tolerance));
  const auto difference = [](const std::vector<double>& a, const std::vector<double>& b) {
    return scaled_difference(a.data(), b.data(), a.size());
  };
  CHECK(difference(got.hidden_gradient, want.hidden_gradient) <= Tolerance<T>::gradient);
  CHECK(difference(got.head_gradient, want.head_gradient) <= Tolerance<T>::gradient);
}

/// Every kind of target, and a sum of three, on D in T against the CPU in double.
template <class T, class D>
void check_every_target() {
  using namespace kdlib;
  const TargetBatch b;
  const auto compare = [&](const auto& loss, auto make) {
    check_same<T>(run_targets<T, D>(loss, b, [&] { return make(std::type_identity<T>{}, std::type_identity<D>{}); }),
                  run_targets<double, Cpu>(
                      loss, b, [&] { return make(std::type_identity<double>{}, std::type_identity<Cpu>{}); }));
  };
  const auto on = [](const auto& placed, std::int64_t rows, std::int64_t width) {
    return View<const std::decay_t<decltype(*placed.data())>, D>{placed.data(), {rows, width}};
  };
  const Placed<T, D> teacher_hidden(b.teacher_hidden), teacher_weight(b.teacher_weight), logits(b.teacher_logits),
      log_probs(b.log_probs), log_tail(b.log_tail);
  Buffer<std::int32_t, D> ids(static_cast<std::int64_t>(b.ids.size()));
  Memory<D>::from_host(ids.data(), b.ids.data(), b.ids.size() * sizeof(std::int32_t));
  const auto labels = [](auto, auto) { return NoTargets{}; };
  const auto sampled = [&](auto, auto) { return SampledTargets{b.sampled}; };
  const auto stored = [&](auto t, auto d) {
    using X = typename decltype(t)::type;
    using Y = typename decltype(d)::type;
    if constexpr (std::is_same_v<Y, Cpu>) return LogitTargets<X, Y>{{b.teacher_logits.data(), {b.n, b.v}}};
    else return LogitTargets<X, Y>{on(logits, b.n, b.v)};
  };
  const auto projected = [&](auto t, auto d) {
    using X = typename decltype(t)::type;
    using Y = typename decltype(d)::type;
    if constexpr (std::is_same_v<Y, Cpu>)
      return HiddenTargets<X, Y>{{b.teacher_hidden.data(), {b.n, b.teacher_h}},
                                 {.weight = {b.teacher_weight.data(), {b.v, b.teacher_h}}}};
    else
      return HiddenTargets<X, Y>{on(teacher_hidden, b.n, b.teacher_h),
                                 {.weight = on(teacher_weight, b.v, b.teacher_h)}};
  };
  const auto top_k = [&](auto t, auto d) {
    using X = typename decltype(t)::type;
    using Y = typename decltype(d)::type;
    if constexpr (std::is_same_v<Y, Cpu>)
      return TopKTargets<X, Y>{
          {b.ids.data(), {b.n, b.k}}, {b.log_probs.data(), {b.n, b.k}}, {b.log_tail.data(), {b.n}}, 1};
    else return TopKTargets<X, Y>{{ids.data(), {b.n, b.k}}, on(log_probs, b.n, b.k), {log_tail.data(), {b.n}}, 1};
  };
  compare(CrossEntropy{}, labels);
  compare(PolicyGradient{.ratio_limit = 2}, sampled);
  compare(ForwardKl{.temperature = 2}, stored);
  compare(JensenShannon{}, projected);
  compare(TopKForwardKl{}, top_k);
  compare(Sum{Term{1, ForwardKl{}}, Term{0.5, ReverseKl{}}, Term{0.2, CrossEntropy{}}}, projected);
}

}  // namespace kdlib_tests

#endif
