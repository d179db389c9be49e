// SPDX-License-Identifier: Apache-2.0
// The loss engine on a CUDA device: rows of stored logits beside a device copy of the same bytes, and the fused pass
// beside the bare cuBLAS products of the same shapes. Each case is checked against the CPU engine in double on the same
// rounded inputs before it is timed. Options: [--quick].
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/backend/cuda/rows.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/loss/losses.hpp"

using namespace kdlib;

namespace {

void must(cudaError_t status, const char* what) {
  require<BackendError>(status == cudaSuccess, "[bench] ", what, ": ", cudaGetErrorString(status));
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

/// Milliseconds of f on the device.
template <class F>
double device_ms(F&& f) {
  struct Events {
    cudaEvent_t begin{}, end{};
    Events() { must(cudaEventCreate(&begin), "event"), must(cudaEventCreate(&end), "event"); }
  };
  static const Events events;
  must(cudaEventRecord(events.begin), "record");
  f();
  must(cudaEventRecord(events.end), "record");
  must(cudaEventSynchronize(events.end), "wait");
  float ms = 0;
  must(cudaEventElapsedTime(&ms, events.begin, events.end), "time");
  return static_cast<double>(ms);
}

/// Normal numbers of deviation 3 in bf16, repeated with a period that no row length divides.
std::vector<bf16> numbers(std::int64_t count, std::uint64_t seed, double deviation) {
  constexpr std::int64_t period = 1000003;
  const Rng rng(seed, RngPurpose::test);
  std::vector<bf16> out(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < std::min(count, period); ++i) {
    const double u = rng.uniform(static_cast<std::uint32_t>(2 * i)),
                 v = rng.uniform(static_cast<std::uint32_t>(2 * i + 1));
    out[static_cast<std::size_t>(i)] =
        bf16(deviation * std::sqrt(-2 * std::log(1 - u)) * std::cos(6.283185307179586 * v));
  }
  for (std::int64_t i = period; i < count; ++i)
    out[static_cast<std::size_t>(i)] = out[static_cast<std::size_t>(i - period)];
  return out;
}

template <class X>
Buffer<X, Cuda> upload(const std::vector<X>& host) {
  Buffer<X, Cuda> out(static_cast<std::int64_t>(host.size()));
  Memory<Cuda>::from_host(out.data(), host.data(), host.size() * sizeof(X));
  return out;
}

struct Shape {
  std::int64_t rows, columns, support = 0;
};

struct RowInputsOnDevice {
  std::vector<bf16> student, teacher, log_probs, log_tail;
  std::vector<std::int32_t> labels, ids;

  explicit RowInputsOnDevice(const Shape& s)
      : student(numbers(s.rows * s.columns, 1, 3)), teacher(numbers(s.rows * s.columns, 2, 3)) {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      labels.push_back(static_cast<std::int32_t>(r * 7919 % s.columns));
      for (std::int64_t k = 0; k < s.support; ++k) {
        ids.push_back(static_cast<std::int32_t>((r + k * 1021) % s.columns));
        log_probs.push_back(bf16(std::log(0.9 / static_cast<double>(s.support))));
      }
      log_tail.push_back(bf16(std::log(0.1)));
    }
  }
};

/// Largest relative error of value and of the gradient's norm over the first rows, against double.
template <class Loss>
bool right(const Loss& loss, const Shape& s, const RowInputsOnDevice& in, const RowResult* got,
           const std::vector<bf16>& gradient) {
  constexpr std::int64_t rows = 2;
  const auto wide = [](const std::vector<bf16>& x, std::int64_t n) {
    std::vector<double> out;
    for (std::int64_t i = 0; i < n; ++i) out.push_back(static_cast<double>(x[static_cast<std::size_t>(i)]));
    return out;
  };
  const auto student = wide(in.student, rows * s.columns), teacher = wide(in.teacher, rows * s.columns),
             log_probs = wide(in.log_probs, rows * s.support), tail = wide(in.log_tail, rows);
  std::vector<double> want(student.size());
  RowTask<double> task;
  task.rows = rows, task.columns = task.student_stride = task.teacher_stride = task.gradient_stride = s.columns;
  task.student = student.data(), task.gradient = want.data(), task.labels = in.labels.data(), task.scale = 1;
  if constexpr (reads_teacher<Loss>) task.teacher = teacher.data();
  task.support_ids = in.ids.data(), task.support_log_probs = log_probs.data(), task.support_log_tail = tail.data(),
  task.support_size = s.support;
  RowResult reference[rows];
  RowKernels<Cpu, double>::run(loss, task, reference);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(gradient[i]) - want[i];
    error += d * d, norm += want[i] * want[i];
  }
  bool ok = std::sqrt(error / norm) <= 4e-3;
  for (int r = 0; r < rows; ++r)
    ok = ok && std::abs(got[r].value - reference[r].value) <= 2e-3 * std::abs(reference[r].value);
  return ok;
}

/// One line: the kernel in place, and a copy of as many bytes as the one-read floor moves.
template <class Loss>
bool bench_rows(const char* gate, const char* name, double wanted, const Loss& loss, const Shape& s, int repeats) {
  const RowInputsOnDevice in(s);
  const auto source = upload(in.student), teacher = upload(in.teacher), log_probs = upload(in.log_probs),
             log_tail = upload(in.log_tail);
  const auto labels = upload(in.labels), ids = upload(in.ids);
  Buffer<bf16, Cuda> student(s.rows * s.columns);
  Buffer<RowResult, Cuda> results(s.rows);
  const std::size_t bytes = in.student.size() * sizeof(bf16);
  RowTask<bf16> task;
  task.rows = s.rows, task.columns = task.student_stride = task.teacher_stride = task.gradient_stride = s.columns;
  task.student = task.gradient = student.data(), task.labels = labels.data();
  if constexpr (reads_teacher<Loss>) task.teacher = teacher.data();
  task.support_ids = ids.data(), task.support_log_probs = log_probs.data(), task.support_log_tail = log_tail.data(),
  task.support_size = s.support;
  const auto restore = [&] { Memory<Cuda>::copy(student.data(), source.data(), bytes); };
  const auto run = [&] { RowKernels<Cuda, bf16>::launch(loss, task, results.data(), nullptr); };

  restore();
  run();
  std::vector<RowResult> first(2);
  std::vector<bf16> gradient(static_cast<std::size_t>(2 * s.columns));
  Memory<Cuda>::to_host(first.data(), results.data(), first.size() * sizeof(RowResult));
  Memory<Cuda>::to_host(gradient.data(), student.data(), gradient.size() * sizeof(bf16));
  if (!right(loss, s, in, first.data(), gradient)) {
    std::printf("%-3s %-22s %6lld x %6lld  WRONG against float64: not timed\n", gate, name,
                static_cast<long long>(s.rows), static_cast<long long>(s.columns));
    return false;
  }
  // Read the student, write the gradient, and read the teacher: a copy moves two bytes for each byte it is given.
  const double floor_bytes = static_cast<double>(bytes) * (reads_teacher<Loss> ? 3 : 2);
  Buffer<bf16, Cuda> copy_to(s.rows * s.columns);
  std::vector<double> kernel, copy;
  for (int i = 0; i < repeats; ++i) {
    restore();
    kernel.push_back(device_ms(run));
    copy.push_back(device_ms([&] {
      must(cudaMemcpyAsync(copy_to.data(), source.data(), bytes, cudaMemcpyDeviceToDevice, nullptr), "copy");
    }));
  }
  const double ms = median(kernel), copied = median(copy) * floor_bytes / (2 * static_cast<double>(bytes));
  std::printf(
      "%-3s %-22s %6lld x %6lld  %8.3f ms  %7.0f GB/s of the floor's bytes  copy of as many %8.3f ms  %5.1f %% (gate "
      "%.0f %%)\n",
      gate, name, static_cast<long long>(s.rows), static_cast<long long>(s.columns), ms, floor_bytes / ms * 1e-6,
      copied, 100 * copied / ms, wanted);
  return true;
}

/// head_loss with a frozen head beside its products.
template <class Loss>
void bench_fused(const char* name, const Loss& loss, std::int64_t rows, std::int64_t v, std::int64_t h,
                 std::int64_t teacher_h, int repeats) {
  const auto hidden = upload(numbers(rows * h, 3, 1)), weight = upload(numbers(v * h, 4, 0.1)),
             teacher_hidden = upload(numbers(rows * teacher_h, 5, 1)),
             teacher_weight = upload(numbers(v * teacher_h, 6, 0.1));
  Buffer<bf16, Cuda> gradient(rows * h);
  std::vector<std::int32_t> labels;
  for (std::int64_t r = 0; r < rows; ++r) labels.push_back(static_cast<std::int32_t>(r * 7919 % v));
  const HeadView<bf16, Cuda> head{.weight = {weight.data(), {v, h}}};
  const HiddenTargets<bf16, Cuda> targets{{teacher_hidden.data(), {rows, teacher_h}},
                                          {.weight = {teacher_weight.data(), {v, teacher_h}}}};
  const std::int64_t workspace = std::int64_t{1} << 30, copies = reads_teacher<Loss> ? 2 : 1,
                     chunk = head_loss_chunk(rows, v, copies, 2, workspace);
  const auto fused = [&] {
    head_loss(loss, head, {hidden.data(), {rows, h}}, targets, {.labels = labels}, 1.0 / static_cast<double>(rows),
              {gradient.data(), {rows, h}}, nullptr, {.workspace_bytes = workspace});
  };
  Buffer<bf16, Cuda> logits(chunk * v);
  const auto products = [&] {
    using K = Kernels<Cuda, bf16>;
    for (std::int64_t begin = 0; begin < rows; begin += chunk) {
      const std::int64_t n = std::min(chunk, rows - begin);
      K::gemm(false, true, n, v, h, bf16(1.0f), hidden.data() + begin * h, h, weight.data(), h, bf16(0.0f),
              logits.data(), v);
      if (reads_teacher<Loss>)
        K::gemm(false, true, n, v, teacher_h, bf16(1.0f), teacher_hidden.data() + begin * teacher_h, teacher_h,
                teacher_weight.data(), teacher_h, bf16(0.0f), logits.data(), v);
      K::gemm(false, false, n, h, v, bf16(1.0f), logits.data(), v, weight.data(), h, bf16(0.0f),
              gradient.data() + begin * h, h);
    }
  };
  const auto wall = [](const auto& f) {
    cuda_synchronize();
    const auto begin = std::chrono::steady_clock::now();
    f();
    cuda_synchronize();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  };
  std::vector<double> a, b;
  fused(), products();
  for (int i = 0; i < repeats; ++i) a.push_back(wall(fused)), b.push_back(wall(products));
  std::printf("    %-22s %6lld x %6lld; %lld <- %lld  %8.3f ms  cuBLAS alone %8.3f ms  %.2fx\n", name,
              static_cast<long long>(rows), static_cast<long long>(v), static_cast<long long>(h),
              static_cast<long long>(teacher_h), median(a), median(b), median(a) / median(b));
}

int run(bool quick) {
  std::printf("%s; %s\n", cuda_device_text().c_str(), cuda_library_text().c_str());
  const int repeats = quick ? 5 : 25;
  const std::vector<std::int64_t> rows =
      quick ? std::vector<std::int64_t>{1024} : std::vector<std::int64_t>{4096, 8192};
  const std::vector<std::int64_t> columns =
      quick ? std::vector<std::int64_t>{49152} : std::vector<std::int64_t>{49152, 151936, 152064, 201088};
  bool ok = true;
  for (const std::int64_t n : rows)
    for (const std::int64_t v : columns) {
      ok = bench_rows("G1", "cross-entropy", 85, CrossEntropy{}, {n, v}, repeats) && ok;
      ok = bench_rows("G2", "forward KL", 80, ForwardKl{}, {n, v}, repeats) && ok;
      ok = bench_rows("G3", "reverse KL", 80, ReverseKl{}, {n, v}, repeats) && ok;
      ok = bench_rows("G4", "JSD 0.5", 55, JensenShannon{}, {n, v}, repeats) && ok;
      ok = bench_rows("G4", "JSD 0.1", 55, JensenShannon{.beta = 0.1}, {n, v}, repeats) && ok;
      ok = bench_rows("G5", "top-k KL, K = 64", 75, TopKForwardKl{}, {n, v, 64}, repeats) && ok;
      ok = bench_rows("G5", "top-k KL, K = 256", 75, TopKForwardKl{}, {n, v, 256}, repeats) && ok;
    }
  std::printf(
      "fused pass, frozen head, beside the bare products (rows are checked above, the pass in "
      "tests/cuda/head_loss_test)\n");
  bench_fused("cross-entropy", CrossEntropy{}, quick ? 1024 : 4096, 49152, 576, 2048, repeats);
  bench_fused("forward KL", ForwardKl{}, quick ? 1024 : 4096, 49152, 576, 2048, repeats);
  if (!quick) bench_fused("forward KL", ForwardKl{}, 4096, 151936, 896, 3584, repeats);
  return ok ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc == 2 && std::strcmp(argv[1], "--quick") == 0;
  if (argc > 2 || (argc == 2 && !quick)) {
    std::fprintf(stderr, "usage: bench_losses_cuda [--quick]\n");
    return 2;
  }
  try {
    if (cuda_device_count() == 0) {
      std::fprintf(
          stderr,
          "bench_losses_cuda: no CUDA device answers here, so nothing is measured; bench_losses measures the CPU\n");
      return 2;
    }
    return run(quick);
  } catch (const Error& e) {
    std::fprintf(stderr, "bench_losses_cuda: %s\n", e.what());
    return 1;
  }
}
