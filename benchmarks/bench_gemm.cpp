// SPDX-License-Identifier: Apache-2.0
// Matrix products at the sizes of a small model's training step and of generation: GFLOP/s, each checked against sums
// in double first. In bfloat16 the kinds of a step are kept: logits and gradients of weights are of float.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/tools/blas_kernels.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;

namespace {

struct Size {
  const char* use;
  bool ta, tb;
  std::int64_t m, n, k;
  enum { same, wide_result, wide_factor } kind = same;  // in bfloat16: what is of float
};

const Size sizes[] = {{"square", false, true, 1024, 1024, 1024},
                      {"forward up", false, true, 1024, 1536, 576},
                      {"forward down", false, true, 1024, 576, 1536},
                      {"forward kv", false, true, 1024, 192, 576},
                      {"backward up", false, false, 1024, 576, 1536},
                      {"backward down", false, false, 1024, 1536, 576},
                      {"weight gradient", true, false, 1536, 576, 1024, Size::wide_result},
                      {"head forward", false, true, 256, 49152, 576, Size::wide_result},
                      {"head backward", false, false, 256, 576, 49152, Size::wide_factor},
                      {"lora A", false, true, 1024, 16, 576},
                      {"lora B", false, true, 1024, 576, 16},
                      {"lora A gradient", true, false, 16, 576, 1024, Size::wide_result},
                      {"lora B gradient", true, false, 576, 16, 1024, Size::wide_result},
                      {"decode 1", false, true, 1, 1536, 576},
                      {"decode 4", false, true, 4, 1536, 576},
                      {"decode 16", false, true, 16, 1536, 576},
                      {"head 1", false, true, 1, 49152, 576},
                      {"head 16", false, true, 16, 49152, 576}};

template <class T>
std::vector<T> random(std::int64_t n, std::uint32_t row) {
  std::vector<T> x(static_cast<std::size_t>(n));
  const kd::Rng rng(1, kd::RngPurpose::test, 0, row);
  kd::parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      x[static_cast<std::size_t>(i)] = static_cast<T>(rng.uniform(static_cast<std::uint32_t>(i)) - 0.5);
  });
  return x;
}

/// Largest relative error of some elements, spread over C.
template <class A, class B, class C>
double error_of(const Size& s, const std::vector<A>& a, const std::vector<B>& b, const std::vector<C>& c) {
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

/// Seconds of the fastest of `repeats` products A [m, k] B [k, n] after one that is checked.
template <class T, class A, class C>
double seconds_of(const Size& s, int repeats) {
  const std::vector<A> a = random<A>(s.m * s.k, 1);
  const std::vector<T> b = random<T>(s.n * s.k, 2);
  std::vector<C> c(static_cast<std::size_t>(s.m * s.n));
  double best = 1e30;
  for (int r = 0; r <= repeats; ++r) {
    const auto begin = std::chrono::steady_clock::now();
    kd::Kernels<kd::Cpu, T>::gemm(s.ta, s.tb, s.m, s.n, s.k, 1.0f, a.data(), s.ta ? s.m : s.k, b.data(),
                                  s.tb ? s.k : s.n, 0.0f, c.data(), s.n);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (r == 0) {
      const double error = error_of(s, a, b, c), most = std::is_same_v<T, float> ? 1e-5 : 4e-3;
      kd::require<kd::Error>(error < most, "[bench_gemm] ", s.use, ": relative error ", error);
    } else {
      best = std::min(best, seconds);
    }
  }
  return best;
}

template <class T>
double seconds_in(const Size& s, int repeats) {
  if (s.kind == Size::wide_result) return seconds_of<T, T, float>(s, repeats);
  if (s.kind == Size::wide_factor) return seconds_of<T, float, T>(s, repeats);
  return seconds_of<T, T, T>(s, repeats);
}

}  // namespace

int main(int argc, char** argv) try {
  kd::choose_blas_kernels();
  int threads = 0, repeats = 10;
  std::uint64_t seed = 1;
  std::string dtype = "float32";
  kd::Options options{"bench_gemm", "Times matrix products; prints a JSON line for each size."};
  options.add("repeats", repeats, "N", "the best is printed")
      .at_least(1)
      .add("dtype", dtype, "TYPE", "scalars of the matrices")
      .choices({"float32", "bfloat16"})
      .common(threads, seed);
  options.parse(argc, argv);
  if (threads > 0) kd::set_thread_count(threads);
  const bool narrow = dtype == "bfloat16";
  std::printf("{\"blas\":\"%s\",\"level\":\"%s\",\"threads\":%d,\"dtype\":\"%s\",\"bf16\":\"%s\"}\n",
              kd::cpu_blas_name(), kd::cpu_level_name(kd::cpu_level()), kd::thread_count(), dtype.c_str(),
              kd::cpu_narrow_name().c_str());
  for (const Size& s : sizes) {
    const double best = narrow ? seconds_in<kd::bf16>(s, repeats) : seconds_of<float, float, float>(s, repeats);
    std::printf(
        "{\"name\":\"%s\",\"ta\":%d,\"tb\":%d,\"m\":%lld,\"n\":%lld,\"k\":%lld,\"gflop_per_s\":%.1f,\"b_gb_per_s\":%."
        "1f}\n",
        s.use, s.ta, s.tb, static_cast<long long>(s.m), static_cast<long long>(s.n), static_cast<long long>(s.k),
        2e-9 * static_cast<double>(s.m * s.n) * static_cast<double>(s.k) / best,
        (narrow ? 2e-9 : 4e-9) * static_cast<double>(s.n * s.k) / best);
    std::fflush(stdout);
  }
} catch (const kd::Error& error) {
  return kd::report(error);
}
