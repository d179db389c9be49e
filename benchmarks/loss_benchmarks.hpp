// SPDX-License-Identifier: Apache-2.0
// Benchmarks of losses, one's own or the library's: rows of given logits, and the pass fused with the head. Each case
// is checked against double precision before it is timed. Component `benchmarks`; needs Google Benchmark.
//
//   #include <kdlib/backend/cpu.hpp>
//   #include <benchmarks/loss_benchmarks.hpp>
//   #include <kdlib/tools/blas_kernels.hpp>
//   int main(int argc, char** argv) {
//     kdlib::choose_blas_kernels();  // where OpenBLAS does not know the CPU
//     kdlib_benchmarks::bench_rows("mine", MyLoss{});
//     kdlib_benchmarks::bench_fused("mine", MyLoss{});
//     return kdlib_benchmarks::run(argc, argv);
//   }
//
// Names end in /real_time, as Google Benchmark writes them: a filter such as `rows/mine/.*threads:2/real_time$`
// selects.
#ifndef KDLIB_BENCHMARKS_LOSS_BENCHMARKS_HPP
#define KDLIB_BENCHMARKS_LOSS_BENCHMARKS_HPP

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/loss_data.hpp"

#include "kdlib/loss/head_loss.hpp"

namespace kdlib_benchmarks {

namespace kd = kdlib;

using loss_data::Data;
using loss_data::data_of;
using loss_data::Shape;

/// ||a - b|| / ||b||.
template <class A, class B>
double relative_error(const A* a, const B* b, std::int64_t n) {
  double difference = 0, total = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y), total += y * y;
  }
  return std::sqrt(difference / std::max(total, 1e-300));
}

template <class T, class S>
std::vector<T> converted(const S* x, std::int64_t n) {
  std::vector<T> out(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) out[static_cast<std::size_t>(i)] = static_cast<T>(x[i]);
  return out;
}

inline bool passes(benchmark::State& state, double value, double want, double gradient_error, bool narrow) {
  const double value_error = std::abs(value - want) / std::max(std::abs(want), 1e-300);
  state.counters["value_error"] = value_error;
  state.counters["gradient_error"] = gradient_error;
  const bool good = value_error <= (narrow ? 2e-3 : 1e-5) && gradient_error <= (narrow ? 4e-3 : 1e-5);
  if (!good) state.SkipWithError("differs from double precision");
  return good;
}

/// Every second row out of the loss, or no weights.
inline std::vector<float> half_weights(std::int64_t rows, bool masked) {
  std::vector<float> w;
  for (std::int64_t r = 0; masked && r < rows; ++r) w.push_back(r % 2 == 0 ? 0.0f : 1.0f);
  return w;
}

enum class Extra { none, metrics, masked };

template <class T, class Loss>
void rows_case(benchmark::State& state, const Shape& shape, const Loss& loss, int threads, Extra extra) {
  const Data& data = data_of(shape);
  kd::set_thread_count(threads);
  const std::int64_t n = shape.rows, v = shape.vocabulary;
  const std::vector<T> s = converted<T>(data.student.data(), n * v), t = converted<T>(data.teacher.data(), n * v);
  std::vector<T> g(s.size());
  const kd::View<const T, kd::Cpu> student(s.data(), {n, v});
  const kd::LogitTargets<T, kd::Cpu> targets{kd::View<const T, kd::Cpu>(t.data(), {n, v})};
  const std::vector<float> weights = half_weights(n, extra == Extra::masked);
  const kd::RowInputs inputs{.labels = data.labels, .weights = weights};
  const bool metrics = extra == Extra::metrics;
  const auto run = [&] {
    return kd::row_loss(loss, student, targets, inputs, 1.0 / static_cast<double>(n),
                        kd::View<T, kd::Cpu>(g.data(), {n, v}), {.metrics = metrics});
  };
  {
    constexpr std::int64_t few = 4;
    const std::vector<double> s64 = converted<double>(s.data(), few * v), t64 = converted<double>(t.data(), few * v);
    std::vector<double> g64(s64.size());
    const kd::RowInputs few_inputs{.labels = inputs.labels.first(few),
                                   .weights = inputs.weights.first(weights.empty() ? 0 : few)};
    const auto want =
        kd::row_loss(loss, kd::View<const double, kd::Cpu>(s64.data(), {few, v}),
                     kd::LogitTargets<double, kd::Cpu>{kd::View<const double, kd::Cpu>(t64.data(), {few, v})},
                     few_inputs, 1.0 / static_cast<double>(n), kd::View<double, kd::Cpu>(g64.data(), {few, v}));
    const auto got = kd::row_loss(loss, student.rows(0, few), targets.rows(0, few), few_inputs,
                                  1.0 / static_cast<double>(n), kd::View<T, kd::Cpu>(g.data(), {few, v}));
    if (!passes(state, got.loss.sum, want.loss.sum, relative_error(g.data(), g64.data(), few * v), sizeof(T) == 2))
      return;
  }
  kd::memory_use<kd::Cpu>().reset_peak();
  const std::int64_t before = kd::memory_use<kd::Cpu>().now.load();
  for (auto _ : state) benchmark::DoNotOptimize(run().loss.sum);
  const double entries = static_cast<double>(n * v), streams = kd::reads_teacher<Loss> ? 3 : 2;
  state.counters["Melem/s"] = benchmark::Counter(entries * 1e-6, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] =
      benchmark::Counter(entries * streams * sizeof(T) * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["extra_MB"] = static_cast<double>(kd::memory_use<kd::Cpu>().peak.load() - before) * 1e-6;
}

template <class T, class Loss>
void fused_case(benchmark::State& state, const Shape& shape, const Loss& loss, int threads, bool with_head,
                Extra extra) {
  const Data& data = data_of(shape);
  kd::set_thread_count(threads);
  const std::int64_t n = shape.rows, v = shape.vocabulary;
  const std::vector<T> x_all = converted<T>(data.student.data(), n * shape.width),
                       xt_all = converted<T>(data.teacher.data(), n * shape.teacher_width),
                       wt_all = converted<T>(data.teacher_head.data(), v * shape.teacher_width);
  kd::Parameter<T, kd::Cpu> head;
  head.value = kd::Tensor<T, kd::Cpu>({v, shape.width});
  for (std::int64_t i = 0; i < v * shape.width; ++i)
    head.value.data()[i] = static_cast<T>(data.student_head[static_cast<std::size_t>(i)]);
  if (with_head) head.gradient_view();
  const kd::HeadView<T, kd::Cpu> student{.weight = std::as_const(head.value).view()};
  const kd::HiddenTargets<T, kd::Cpu> targets{{xt_all.data(), {n, shape.teacher_width}},
                                              {.weight = {wt_all.data(), {v, shape.teacher_width}}}};
  const kd::View<const T, kd::Cpu> hidden(x_all.data(), {n, shape.width});
  kd::Tensor<T, kd::Cpu> gradient({n, shape.width});
  const double scale = 1.0 / static_cast<double>(n);
  const std::vector<float> weights = half_weights(n, extra == Extra::masked);
  const bool metrics = extra == Extra::metrics;
  {
    constexpr std::int64_t few = 4;
    const kd::RowInputs inputs{.labels = std::span<const std::int32_t>(data.labels).first(few),
                               .weights = std::span<const float>(weights).first(weights.empty() ? 0 : few)};
    const std::vector<double> w = converted<double>(head.value.data(), v * shape.width),
                              wt = converted<double>(wt_all.data(), v * shape.teacher_width),
                              x = converted<double>(x_all.data(), few * shape.width),
                              xt = converted<double>(xt_all.data(), few * shape.teacher_width);
    std::vector<double> g(x.size());
    const auto want =
        kd::head_loss(loss, kd::HeadView<double, kd::Cpu>{.weight = {w.data(), {v, shape.width}}},
                      kd::View<const double, kd::Cpu>(x.data(), {few, shape.width}),
                      kd::HiddenTargets<double, kd::Cpu>{{xt.data(), {few, shape.teacher_width}},
                                                         {.weight = {wt.data(), {v, shape.teacher_width}}}},
                      inputs, scale, kd::View<double, kd::Cpu>(g.data(), {few, shape.width}), nullptr);
    const auto got = kd::head_loss(loss, student, hidden.rows(0, few), targets.rows(0, few), inputs, scale,
                                   gradient.view().rows(0, few), nullptr);
    if (!passes(state, got.loss.sum, want.loss.sum, relative_error(gradient.data(), g.data(), few * shape.width),
                sizeof(T) == 2))
      return;
  }
  kd::memory_use<kd::Cpu>().reset_peak();
  const std::int64_t before = kd::memory_use<kd::Cpu>().now.load();
  for (auto _ : state)
    benchmark::DoNotOptimize(kd::head_loss(loss, student, hidden, targets, {.labels = data.labels, .weights = weights},
                                           scale, gradient.view(), with_head ? &head : nullptr, {.metrics = metrics})
                                 .loss.sum);
  const double nv = static_cast<double>(n * v), h = static_cast<double>(shape.width),
               ht = kd::reads_teacher<Loss> ? static_cast<double>(shape.teacher_width) : 0.0;
  state.counters["Melem/s"] = benchmark::Counter(nv * 1e-6, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] = benchmark::Counter(nv * (2 * h * (with_head ? 3 : 2) + 2 * ht) * 1e-9,
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["extra_MB"] = static_cast<double>(kd::memory_use<kd::Cpu>().peak.load() - before) * 1e-6;
}

inline void add_case(const std::string& name, const std::function<void(benchmark::State&)>& function) {
  benchmark::RegisterBenchmark(name.c_str(), function)->UseRealTime()->Unit(benchmark::kMillisecond);
}

/// Registers rows/<name>/<type>/<N>x<V>/threads:<n>[/metrics|/masked]: logits of N rows over V tokens in memory, read
/// once, and the gradient, written once, in float32 and bf16. Masked: every second row has weight 0.
template <class Loss>
void bench_rows(const std::string& name, const Loss& loss, std::span<const Shape> shapes = loss_data::row_shapes) {
  for (const Shape& shape : shapes)
    for (const int threads : {1, 2}) {
      const std::string end = shape.text() + "/threads:" + std::to_string(threads),
                        floats = "rows/" + name + "/float32/";
      const auto add = [&](const std::string& text, Extra extra) {
        add_case(text, [=](benchmark::State& s) { rows_case<float>(s, shape, loss, threads, extra); });
      };
      add(floats + end, Extra::none);
      add_case("rows/" + name + "/bf16/" + end,
               [=](benchmark::State& s) { rows_case<kd::bf16>(s, shape, loss, threads, Extra::none); });
      add(floats + end + "/metrics", Extra::metrics);
      add(floats + end + "/masked", Extra::masked);
    }
}

/// Registers fused/<name>/<N>_<V>_<H>_<Ht>/<frozen|head>/threads:2[/metrics|/masked]: hidden states of width H by a
/// head of V rows, the teacher's of width Ht, with the gradients of the hidden states (frozen) or of the head, too.
/// With T = bf16 (hidden states and heads; logits are of float) the names begin with fused_bf16/.
template <class T = float, class Loss>
void bench_fused(const std::string& name, const Loss& loss, std::span<const Shape> shapes = loss_data::fused_shapes) {
  for (const Shape& shape : shapes)
    for (const bool head : {false, true}) {
      const std::string text = (sizeof(T) == 2 ? "fused_bf16/" : "fused/") + name + "/" + shape.text() +
                               (head ? "/head" : "/frozen") + "/threads:2";
      const auto add = [&](const std::string& full, Extra extra) {
        add_case(full, [=](benchmark::State& s) { fused_case<T>(s, shape, loss, 2, head, extra); });
      };
      add(text, Extra::none);
      if (head) continue;
      add(text + "/metrics", Extra::metrics);
      add(text + "/masked", Extra::masked);
    }
}

/// Runs what was registered with Google Benchmark's own options. 0, or 2 for an argument that it does not know.
inline int run(int argc, char** argv) {
  benchmark::AddCustomContext("kdlib", kd::Kernels<kd::Cpu, float>::environment());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace kdlib_benchmarks

#endif
