// SPDX-License-Identifier: Apache-2.0
// Products of few rows with packed weights, beside what bounds them: bytes read a second against a plain read of as
// much memory, and multiplications against the machine's peak. Checked before it is timed: each product equals the one
// with the decoded weights.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/quant/coded_matrix.hpp"
#include "kdlib/tools/blas_kernels.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;
using K = kd::Kernels<kd::Cpu, float>;
using Matrix = kd::CodedMatrix<float, kd::Cpu>;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Median seconds of one call; calls repeat for at least `least` seconds.
template <class F>
double median_seconds(double least, F&& f) {
  std::vector<double> times;
  const double begin = now();
  while (times.size() < 5 || (now() - begin < least && times.size() < 1000)) {
    const double start = now();
    f();
    times.push_back(now() - start);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

/// GB/s of summing memory of this size with all threads.
double read_bandwidth(std::int64_t bytes, double least) {
  const std::vector<float> memory(static_cast<std::size_t>(bytes) / sizeof(float), 1.0f);
  double sum = 0;
  const double seconds =
      median_seconds(least, [&] { sum += K::sum_squares(memory.data(), static_cast<std::int64_t>(memory.size())); });
  return sum > 0 ? static_cast<double>(memory.size() * sizeof(float)) / seconds / 1e9 : 0;
}

/// GFLOP/s of a large product by the matrix library, all threads.
double peak_flops(double least) {
  constexpr std::int64_t size = 1024;
  const std::vector<float> a(size * size, 0.5f), b(size * size, 0.25f);
  std::vector<float> c(size * size);
  const double seconds = median_seconds(least, [&] {
    K::gemm(false, true, size, size, size, 1.0f, a.data(), size, b.data(), size, 0.0f, c.data(), size);
  });
  return 2.0 * size * size * size / seconds / 1e9;
}

void check(const Matrix& m, std::int64_t rows, const std::vector<float>& x) {
  const std::int64_t n = m.rows(), k = m.columns();
  const auto dense = m.decode_all();
  std::vector<float> y(static_cast<std::size_t>(rows * n)), expected(y.size());
  m.multiply_few(rows, x.data(), 0.0f, y.data());
  K::gemm(false, true, rows, n, k, 1.0f, x.data(), k, dense.data(), k, 0.0f, expected.data(), n);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    error = std::max(error, std::fabs(static_cast<double>(y[i]) - static_cast<double>(expected[i])));
    size = std::max(size, std::fabs(static_cast<double>(expected[i])));
  }
  kd::require<kd::Error>(error <= 1e-5 * size, "[bench_packed] ", m.description(), ": the product is off by ", error,
                         " of ", size);
}

void run(const kd::QuantizeSettings& format, std::int64_t n, std::int64_t k, std::int64_t total,
         const std::vector<std::int64_t>& rows, double least, double peak) {
  std::vector<float> w(static_cast<std::size_t>(n * k));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>((i * 2654435761u >> 7) % 2001) / 1000.0f - 1.0f;
  const kd::CodedData data = kd::encode_weights(w.data(), n, k, format);
  std::vector<Matrix> matrices;
  std::int64_t bytes = 0;
  while (bytes < total) {
    matrices.emplace_back(data);
    bytes += matrices.back().bytes();
  }
  const double plain = read_bandwidth(bytes, least);
  for (const std::int64_t m : rows) {
    std::vector<float> x(static_cast<std::size_t>(m * k)), y(static_cast<std::size_t>(m * n));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) / 8.0f - 1.0f;
    check(matrices[0], m, x);
    const double seconds = median_seconds(least, [&] {
      for (const Matrix& one : matrices) one.multiply_few(m, x.data(), 0.0f, y.data());
    });
    const double rate = static_cast<double>(bytes) / seconds / 1e9,
                 work = 2.0 * static_cast<double>(m * n * k) * static_cast<double>(matrices.size()) / seconds / 1e9;
    std::printf("| %s | %lld x %lld | %lld | %.1f | %.0f %% of %.1f | %.0f | %.0f %% |\n", kd::describe(format).c_str(),
                static_cast<long long>(n), static_cast<long long>(k), static_cast<long long>(m), rate,
                100 * rate / plain, plain, work, 100 * work / peak);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  kd::choose_blas_kernels();
  std::vector<std::string> kinds = {"int4", "nf4", "mxfp4", "int8", "int3"};
  int threads = 0, mebibytes = 256, n = 1536, k = 576, milliseconds = 400;
  std::uint64_t seed = 1;
  bool double_quant = false;
  std::string rule = "symmetric";
  kd::Options o{"bench_packed", "Products of 1 to 8 rows with packed weights against memory bandwidth and peak."};
  o.group("Benchmark")
      .add("kinds", kinds, "LIST", "formats")
      .add("rule", rule, "RULE", "of int3, int4, int8")
      .choices({"symmetric", "affine", "asymmetric"})
      .add("double-quant", double_quant, "nf4, fp4: scales in 8 bits")
      .add("rows", n, "N", "rows of a weight")
      .at_least(1)
      .add("columns", k, "N", "columns of a weight")
      .at_least(1)
      .add("memory", mebibytes, "N", "of all weights of a format together", "MiB")
      .at_least(1)
      .add("time", milliseconds, "N", "of each measurement", "ms")
      .at_least(1);
  o.group("General").common(threads, seed);
  o.parse(argc, argv);
  if (threads > 0) kd::set_thread_count(threads);
  const double least = milliseconds / 1e3, peak = peak_flops(least);
  std::printf("%d threads, %s; a product of 1024 x 1024 x 1024 reaches %.0f GFLOP/s\n\n", kd::thread_count(),
              kd::cpu_level_name(kd::cpu_level()), peak);
  std::printf(
      "| format | weight | rows of x | GB/s of codes and scales | of a plain read, GB/s | GFLOP/s | of the large "
      "product's |\n|---|---|---|---|---|---|---|\n");
  for (const std::string& name : kinds) {
    const kd::PackedKind kind = kd::packed_kind(name);
    const bool table = kind == kd::PackedKind::nf4 || kind == kd::PackedKind::fp4,
               integer = !table && kind != kd::PackedKind::mxfp4;
    run({.kind = kind,
         .group_size = kind == kd::PackedKind::mxfp4 ? 32 : 64,
         .rule = !integer || rule == "symmetric" ? kd::Int4Rule::symmetric
                 : rule == "affine"              ? kd::Int4Rule::affine
                                                 : kd::Int4Rule::asymmetric,
         .double_quantized = table && double_quant},
        n, k, std::int64_t{mebibytes} << 20, {1, 2, 4, 8}, least, peak);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_packed: %s\n", error.what());
  return 1;
}
