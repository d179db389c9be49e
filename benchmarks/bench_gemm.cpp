// SPDX-License-Identifier: Apache-2.0
// Matrix products at the sizes of a small model's training step and of generation: GFLOP/s, each checked against sums
// in double first.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;

namespace {

using K = kd::Kernels<kd::Cpu, float>;

struct Size {
  const char* use;
  bool ta, tb;
  std::int64_t m, n, k;
};

const Size sizes[] = {{"square", false, true, 1024, 1024, 1024},
                      {"forward up", false, true, 1024, 1536, 576},
                      {"forward down", false, true, 1024, 576, 1536},
                      {"forward kv", false, true, 1024, 192, 576},
                      {"backward up", false, false, 1024, 576, 1536},
                      {"backward down", false, false, 1024, 1536, 576},
                      {"weight gradient", true, false, 1536, 576, 1024},
                      {"head forward", false, true, 256, 49152, 576},
                      {"head backward", false, false, 256, 576, 49152},
                      {"lora A", false, true, 1024, 16, 576},
                      {"lora B", false, true, 1024, 576, 16},
                      {"decode 1", false, true, 1, 1536, 576},
                      {"decode 4", false, true, 4, 1536, 576},
                      {"decode 16", false, true, 16, 1536, 576},
                      {"head 1", false, true, 1, 49152, 576},
                      {"head 16", false, true, 16, 49152, 576}};

std::vector<float> random(std::int64_t n, std::uint32_t row) {
  std::vector<float> x(static_cast<std::size_t>(n));
  const kd::Rng rng(1, kd::RngPurpose::test, 0, row);
  kd::parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      x[static_cast<std::size_t>(i)] = static_cast<float>(rng.uniform(static_cast<std::uint32_t>(i)) - 0.5);
  });
  return x;
}

/// Largest relative error of some elements, spread over C.
double error_of(const Size& s, const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& c) {
  double worst = 0;
  for (std::int64_t probe = 0; probe < 32; ++probe) {
    const std::int64_t i = probe * 37 % s.m, j = probe * 7919 % s.n;
    double sum = 0, size = 0;
    for (std::int64_t l = 0; l < s.k; ++l) {
      const double term = static_cast<double>(a[static_cast<std::size_t>(s.ta ? l * s.m + i : i * s.k + l)]) *
                          static_cast<double>(b[static_cast<std::size_t>(s.tb ? j * s.k + l : l * s.n + j)]);
      sum += term;
      size += std::abs(term);
    }
    worst = std::max(worst, std::abs(sum - static_cast<double>(c[static_cast<std::size_t>(i * s.n + j)])) / size);
  }
  return worst;
}

}  // namespace

int main(int argc, char** argv) try {
  int threads = 0, repeats = 10;
  std::uint64_t seed = 1;
  kd::Options options{"bench_gemm", "Times matrix products; prints a JSON line for each size."};
  options.add("repeats", repeats, "N", "the best is printed").at_least(1).common(threads, seed);
  options.parse(argc, argv);
  if (threads > 0) kd::set_thread_count(threads);
  std::printf("{\"blas\":\"%s\",\"level\":\"%s\",\"threads\":%d}\n", kd::cpu_blas_name(),
              kd::cpu_level_name(kd::cpu_level()), kd::thread_count());
  for (const Size& s : sizes) {
    const std::vector<float> a = random(s.m * s.k, 1), b = random(s.n * s.k, 2);
    std::vector<float> c(static_cast<std::size_t>(s.m * s.n));
    double best = 1e30;
    for (int r = 0; r <= repeats; ++r) {
      const auto begin = std::chrono::steady_clock::now();
      K::gemm(s.ta, s.tb, s.m, s.n, s.k, 1.0f, a.data(), s.ta ? s.m : s.k, b.data(), s.tb ? s.k : s.n, 0.0f, c.data(),
              s.n);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (r == 0) {
        const double error = error_of(s, a, b, c);
        kd::require<kd::Error>(error < 1e-5, "[bench_gemm] ", s.use, ": relative error ", error);
      } else {
        best = std::min(best, seconds);
      }
    }
    std::printf(
        "{\"name\":\"%s\",\"ta\":%d,\"tb\":%d,\"m\":%lld,\"n\":%lld,\"k\":%lld,\"gflop_per_s\":%.1f,\"b_gb_per_s\":%."
        "1f}\n",
        s.use, s.ta, s.tb, static_cast<long long>(s.m), static_cast<long long>(s.n), static_cast<long long>(s.k),
        2e-9 * static_cast<double>(s.m * s.n) * static_cast<double>(s.k) / best,
        4e-9 * static_cast<double>(s.n * s.k) / best);
  }
} catch (const kd::Error& error) {
  return kd::report(error);
}
