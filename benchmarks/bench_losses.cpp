// SPDX-License-Identifier: Apache-2.0
// The loss engine: rows of given logits, and the pass fused with the head. Google Benchmark; each case is checked
// against double first.
//
//   bench_losses [--benchmark_filter=rows/fkl] [--write-data DIR]
//
// Names: rows/<loss>/<type>/<N>x<V>/threads:<n>[/metrics|/masked] and
// fused/<loss>/<N>_<V>_<H>_<Ht>/<frozen|head>/threads:<n>[/metrics|/masked]; masked: every second row has weight 0; the
// metrics of rows/ce read the teacher too, which rows/ce alone does not. topk/fkl/<type>/<N>x<V>/threads:<n> is
// TopKForwardKl on K = 64 targets, to be held against rows/ce. projections/... are the bare products of a fused case.
// Melem/s counts N x V; GB/s the bytes that must move (logits read once, gradient written once). --write-data writes
// the inputs for benchmarks/peers/torch_losses.py (the format stands there).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "benchmarks/loss_data.hpp"

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/any_sum.hpp"
#include "kdlib/loss/losses.hpp"

namespace kd = kdlib;

namespace {

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

bool passes(benchmark::State& state, double value, double want, double gradient_error, bool narrow) {
  const double value_error = std::abs(value - want) / std::max(std::abs(want), 1e-300);
  state.counters["value_error"] = value_error;
  state.counters["gradient_error"] = gradient_error;
  const bool good = value_error <= (narrow ? 2e-3 : 1e-5) && gradient_error <= (narrow ? 4e-3 : 1e-5);
  if (!good) state.SkipWithError("differs from double precision");
  return good;
}

/// Every second row out of the loss, or no weights.
std::vector<float> half_weights(std::int64_t rows, bool masked) {
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

template <class Loss>
void fused_case(benchmark::State& state, const Shape& shape, const Loss& loss, int threads, bool with_head,
                Extra extra) {
  const Data& data = data_of(shape);
  kd::set_thread_count(threads);
  const std::int64_t n = shape.rows, v = shape.vocabulary;
  kd::Parameter<float, kd::Cpu> head;
  head.value = kd::Tensor<float, kd::Cpu>({v, shape.width});
  std::copy(data.student_head.begin(), data.student_head.end(), head.value.data());
  if (with_head) head.gradient_view();
  const kd::HeadView<float, kd::Cpu> student{.weight = std::as_const(head.value).view()};
  const kd::HiddenTargets<float, kd::Cpu> targets{{data.teacher.data(), {n, shape.teacher_width}},
                                                  {.weight = {data.teacher_head.data(), {v, shape.teacher_width}}}};
  const kd::View<const float, kd::Cpu> hidden(data.student.data(), {n, shape.width});
  kd::Tensor<float, kd::Cpu> gradient({n, shape.width});
  const double scale = 1.0 / static_cast<double>(n);
  const std::vector<float> weights = half_weights(n, extra == Extra::masked);
  const bool metrics = extra == Extra::metrics;
  {
    constexpr std::int64_t few = 4;
    const kd::RowInputs inputs{.labels = std::span<const std::int32_t>(data.labels).first(few),
                               .weights = std::span<const float>(weights).first(weights.empty() ? 0 : few)};
    const std::vector<double> w = converted<double>(data.student_head.data(), v * shape.width),
                              wt = converted<double>(data.teacher_head.data(), v * shape.teacher_width),
                              x = converted<double>(data.student.data(), few * shape.width),
                              xt = converted<double>(data.teacher.data(), few * shape.teacher_width);
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
                false))
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

/// The teacher's 64 most probable tokens of each row, with the mass of all others.
template <class T>
struct TopK {
  static constexpr std::int64_t size = 64;
  std::vector<std::int32_t> ids;
  std::vector<T> log_probs, log_tail;

  TopK(const float* teacher, std::int64_t rows, std::int64_t vocabulary) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(vocabulary));
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* t = teacher + r * vocabulary;
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
      std::partial_sort(order.begin(), order.begin() + size, order.end(),
                        [&](std::int32_t a, std::int32_t b) { return t[a] > t[b]; });
      double sum = 0, inside = 0;
      for (std::size_t i = order.size(); i-- > 0;) {
        const double e = std::exp(static_cast<double>(t[order[i]]) - static_cast<double>(t[order[0]]));
        (i < size ? inside : sum) += e;
      }
      const double lse = static_cast<double>(t[order[0]]) + std::log(sum + inside);
      log_tail.push_back(static_cast<T>(std::log(sum / (sum + inside))));
      for (std::size_t k = 0; k < size; ++k)
        ids.push_back(order[k]), log_probs.push_back(static_cast<T>(static_cast<double>(t[order[k]]) - lse));
    }
  }
  kd::TopKTargets<T, kd::Cpu> targets(std::int64_t rows) const {
    return {{ids.data(), {rows, size}}, {log_probs.data(), {rows, size}}, {log_tail.data(), {rows}}};
  }
};

template <class T>
void top_k_case(benchmark::State& state, const Shape& shape, int threads) {
  const Data& data = data_of(shape);
  kd::set_thread_count(threads);
  const std::int64_t n = shape.rows, v = shape.vocabulary;
  const std::vector<T> s = converted<T>(data.student.data(), n * v);
  std::vector<T> g(s.size());
  const TopK<T> top(data.teacher.data(), n, v);
  const kd::View<const T, kd::Cpu> student(s.data(), {n, v});
  const double scale = 1.0 / static_cast<double>(n);
  {
    constexpr std::int64_t few = 4;
    const std::vector<double> s64 = converted<double>(s.data(), few * v);
    TopK<double> top64(data.teacher.data(), few, v);
    for (std::size_t i = 0; i < top64.log_probs.size(); ++i)
      top64.log_probs[i] = static_cast<double>(top.log_probs[i]);  // as rounded
    for (std::size_t i = 0; i < top64.log_tail.size(); ++i) top64.log_tail[i] = static_cast<double>(top.log_tail[i]);
    std::vector<double> g64(s64.size());
    const auto want = kd::row_loss(kd::TopKForwardKl{}, kd::View<const double, kd::Cpu>(s64.data(), {few, v}),
                                   top64.targets(few), {}, scale, kd::View<double, kd::Cpu>(g64.data(), {few, v}));
    const auto got = kd::row_loss(kd::TopKForwardKl{}, student.rows(0, few), top.targets(few), {}, scale,
                                  kd::View<T, kd::Cpu>(g.data(), {few, v}));
    if (!passes(state, got.loss.sum, want.loss.sum, relative_error(g.data(), g64.data(), few * v), sizeof(T) == 2))
      return;
  }
  for (auto _ : state)
    benchmark::DoNotOptimize(
        kd::row_loss(kd::TopKForwardKl{}, student, top.targets(n), {}, scale, kd::View<T, kd::Cpu>(g.data(), {n, v}))
            .loss.sum);
  const double entries = static_cast<double>(n * v);
  state.counters["Melem/s"] = benchmark::Counter(entries * 1e-6, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] =
      benchmark::Counter(entries * 2 * sizeof(T) * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

/// The products of a fused case alone, in its chunks: what no fused pass can be faster than.
void projections_case(benchmark::State& state, const Shape& shape, int threads, bool with_head) {
  const Data& data = data_of(shape);
  kd::set_thread_count(threads);
  using K = kd::Kernels<kd::Cpu, float>;
  const std::int64_t v = shape.vocabulary, h = shape.width, ht = shape.teacher_width;
  const std::int64_t chunk = kd::head_loss_chunk(shape.rows, v, 2, 4, kd::HeadLossSettings{}.workspace_bytes);
  kd::Tensor<float, kd::Cpu> s({chunk, v}), t({chunk, v}), dx({chunk, h}), dw({with_head ? v : 0, h});
  for (auto _ : state) {
    for (std::int64_t begin = 0; begin < shape.rows; begin += chunk) {
      const std::int64_t n = std::min(chunk, shape.rows - begin);
      const float* x = data.student.data() + begin * h;
      K::gemm(false, true, n, v, h, 1, x, h, data.student_head.data(), h, 0, s.data(), v);
      K::gemm(false, true, n, v, ht, 1, data.teacher.data() + begin * ht, ht, data.teacher_head.data(), ht, 0, t.data(),
              v);
      K::gemm(false, false, n, h, v, 1, s.data(), v, data.student_head.data(), h, 0, dx.data(), h);
      if (with_head) K::gemm(true, false, v, h, n, 1, s.data(), v, x, h, 1, dw.data(), h);
      benchmark::DoNotOptimize(dx.data()[0]);
    }
  }
  const double nv = static_cast<double>(shape.rows * v);
  state.counters["GFLOP/s"] = benchmark::Counter(
      nv * (2.0 * static_cast<double>(h) * (with_head ? 3 : 2) + 2.0 * static_cast<double>(ht)) * 1e-9,
      benchmark::Counter::kIsIterationInvariantRate);
}

template <class Function>
void for_each_loss(Function&& f) {
  f("ce", kd::CrossEntropy{});
  f("fkl", kd::ForwardKl{});
  f("rkl", kd::ReverseKl{});
  f("jsd0.5", kd::JensenShannon{});
  f("sum", kd::Sum{kd::Term{0.5, kd::ForwardKl{}}, kd::Term{0.3, kd::ReverseKl{}}, kd::Term{0.2, kd::CrossEntropy{}}});
  // The same sum, known at run time only: what --loss "0.5 forward_kl + 0.3 reverse_kl + 0.2 cross_entropy" runs.
  const kd::AnyTerm terms[] = {
      {0.5, kd::AnyLoss(kd::ForwardKl{})}, {0.3, kd::AnyLoss(kd::ReverseKl{})}, {0.2, kd::AnyLoss(kd::CrossEntropy{})}};
  f("any_sum", kd::AnySum<kd::LossNeeds::vocabulary>(terms));
}

void register_all() {
  const auto add = [](const std::string& name, auto&& function) {
    benchmark::RegisterBenchmark(name.c_str(), function)->UseRealTime()->Unit(benchmark::kMillisecond);
  };
  for (const Shape& shape : loss_data::row_shapes)
    for (const int threads : {1, 2})
      for_each_loss([&](const char* loss_name, const auto& loss) {
        const std::string end = shape.text() + "/threads:" + std::to_string(threads);
        add(std::string("rows/") + loss_name + "/float32/" + end,
            [=](benchmark::State& s) { rows_case<float>(s, shape, loss, threads, Extra::none); });
        add(std::string("rows/") + loss_name + "/bf16/" + end,
            [=](benchmark::State& s) { rows_case<kd::bf16>(s, shape, loss, threads, Extra::none); });
        add(std::string("rows/") + loss_name + "/float32/" + end + "/metrics",
            [=](benchmark::State& s) { rows_case<float>(s, shape, loss, threads, Extra::metrics); });
        add(std::string("rows/") + loss_name + "/float32/" + end + "/masked",
            [=](benchmark::State& s) { rows_case<float>(s, shape, loss, threads, Extra::masked); });
      });
  for (const Shape& shape : loss_data::row_shapes)
    for (const int threads : {1, 2}) {
      const std::string end = shape.text() + "/threads:" + std::to_string(threads);
      add("topk/fkl/float32/" + end, [=](benchmark::State& s) { top_k_case<float>(s, shape, threads); });
      add("topk/fkl/bf16/" + end, [=](benchmark::State& s) { top_k_case<kd::bf16>(s, shape, threads); });
    }
  for (const Shape& shape : loss_data::fused_shapes)
    for (const bool head : {false, true}) {
      const std::string end = shape.text() + (head ? "/head" : "/frozen") + "/threads:2";
      add("projections/" + end, [=](benchmark::State& s) { projections_case(s, shape, 2, head); });
      for_each_loss([&](const char* loss_name, const auto& loss) {
        add(std::string("fused/") + loss_name + "/" + end,
            [=](benchmark::State& s) { fused_case(s, shape, loss, 2, head, Extra::none); });
        if (head) return;
        add(std::string("fused/") + loss_name + "/" + end + "/metrics",
            [=](benchmark::State& s) { fused_case(s, shape, loss, 2, head, Extra::metrics); });
        add(std::string("fused/") + loss_name + "/" + end + "/masked",
            [=](benchmark::State& s) { fused_case(s, shape, loss, 2, head, Extra::masked); });
      });
    }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 3 && std::strcmp(argv[1], "--write-data") == 0) {
    loss_data::write_data(argv[2]);
    return 0;
  }
  register_all();
  benchmark::AddCustomContext("kdlib", kd::Kernels<kd::Cpu, float>::environment());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
} catch (const kd::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
