// SPDX-License-Identifier: Apache-2.0
// The loss engine: rows of given logits, and the pass fused with the head. Google Benchmark; each case is checked
// against double first.
//
//   bench_losses [--benchmark_filter=rows/fkl] [--write-data DIR]
//
// Names: rows/<loss>/<type>/<N>x<V>/threads:<n>[/metrics|/masked] and
// fused/<loss>/<N>_<V>_<H>_<Ht>/<frozen|head>/threads:<n>[/metrics|/masked]; masked: every second row has weight 0; the
// metrics of rows/ce read the teacher too, which rows/ce alone does not. fused_bf16/<fkl|ce>/..., projections_bf16/...:
// hidden states and heads in bf16. topk/fkl/<type>/<N>x<V>/threads:<n> is
// TopKForwardKl on K = 64 targets, to be held against rows/ce. projections/... are the bare products of a fused case.
// Melem/s counts N x V; GB/s the bytes that must move (logits read once, gradient written once). --write-data writes
// the inputs for benchmarks/peers/torch_losses.py (the format stands there).
#include <algorithm>
#include <cstring>

#include "kdlib/backend/cpu.hpp"

#include "benchmarks/loss_benchmarks.hpp"

#include "kdlib/loss/any_sum.hpp"
#include "kdlib/loss/losses.hpp"
#include "kdlib/tools/blas_kernels.hpp"

namespace kd = kdlib;

namespace {

using namespace kdlib_benchmarks;

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
template <class T>
void projections_case(benchmark::State& state, const Shape& shape, int threads, bool with_head) {
  const Data& data = data_of(shape);
  kd::set_thread_count(threads);
  using K = kd::Kernels<kd::Cpu, T>;
  const std::int64_t v = shape.vocabulary, h = shape.width, ht = shape.teacher_width;
  const std::int64_t chunk = kd::head_loss_chunk(shape.rows, v, 2, 4, kd::HeadLossSettings{}.workspace_bytes);
  const std::vector<T> xs = converted<T>(data.student.data(), shape.rows * h),
                       xt = converted<T>(data.teacher.data(), shape.rows * ht),
                       ws = converted<T>(data.student_head.data(), v * h),
                       wt = converted<T>(data.teacher_head.data(), v * ht);
  kd::Tensor<float, kd::Cpu> s({chunk, v}), t({chunk, v}), dw({with_head ? v : 0, h});
  kd::Tensor<T, kd::Cpu> dx({chunk, h});
  for (auto _ : state) {
    for (std::int64_t begin = 0; begin < shape.rows; begin += chunk) {
      const std::int64_t n = std::min(chunk, shape.rows - begin);
      const T* x = xs.data() + begin * h;
      K::gemm(false, true, n, v, h, 1, x, h, ws.data(), h, 0, s.data(), v);
      K::gemm(false, true, n, v, ht, 1, xt.data() + begin * ht, ht, wt.data(), ht, 0, t.data(), v);
      K::gemm(false, false, n, h, v, 1, s.data(), v, ws.data(), h, 0, dx.data(), h);
      if (with_head) K::gemm(true, false, v, h, n, 1, s.data(), v, x, h, 1, dw.data(), h);
      benchmark::DoNotOptimize(dx.data());
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

/// Cases of one shape follow each other: its data are made once.
void register_all() {
  for (const Shape& shape : loss_data::row_shapes)
    for_each_loss([&](const char* name, const auto& loss) { bench_rows(name, loss, {&shape, 1}); });
  for (const Shape& shape : loss_data::row_shapes)
    for (const int threads : {1, 2}) {
      const std::string end = shape.text() + "/threads:" + std::to_string(threads);
      add_case("topk/fkl/float32/" + end, [=](benchmark::State& s) { top_k_case<float>(s, shape, threads); });
      add_case("topk/fkl/bf16/" + end, [=](benchmark::State& s) { top_k_case<kd::bf16>(s, shape, threads); });
    }
  for (const Shape& shape : loss_data::fused_shapes) {
    for (const bool head : {false, true}) {
      const std::string end = shape.text() + (head ? "/head" : "/frozen") + "/threads:2";
      add_case("projections/" + end, [=](benchmark::State& s) { projections_case<float>(s, shape, 2, head); });
      add_case("projections_bf16/" + end, [=](benchmark::State& s) { projections_case<kd::bf16>(s, shape, 2, head); });
    }
    for_each_loss([&](const char* name, const auto& loss) { bench_fused(name, loss, {&shape, 1}); });
    bench_fused<kd::bf16>("fkl", kd::ForwardKl{}, {&shape, 1});
    bench_fused<kd::bf16>("ce", kd::CrossEntropy{}, {&shape, 1});
  }
}

}  // namespace

int main(int argc, char** argv) try {
  kd::choose_blas_kernels();
  if (argc == 3 && std::strcmp(argv[1], "--write-data") == 0) {
    loss_data::write_data(argv[2]);
    return 0;
  }
  register_all();
  return run(argc, argv);
} catch (const kd::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
