// SPDX-License-Identifier: Apache-2.0
// What a CUDA device reaches at most: bytes a second of a copy on it, operations a second of a large product in bf16.
// Other figures are shares of these. The product is checked against float64 before it is timed. Built twice:
// bench_ceilings_cuda measures, bench_ceilings_emulated rehearses it on the emulated device, whose times mean nothing.
// Options: [--size N] rows and columns of the product, [--mib N] of the copy.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/tensor/buffer.hpp"

namespace kd = kdlib;
using K = kd::Kernels<kd::Cuda, kd::bf16>;

namespace {

/// The median of the seconds of several runs of work().
template <class F>
double seconds_of(F&& work) {
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) {
    kd::cuda_synchronize();
    const auto begin = std::chrono::steady_clock::now();
    work();
    kd::cuda_synchronize();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

std::vector<kd::bf16> to_host(const kd::bf16* x, std::int64_t n) {
  std::vector<kd::bf16> out(static_cast<std::size_t>(n));
  kd::Memory<kd::Cuda>::to_host(out.data(), x, out.size() * sizeof(kd::bf16));
  return out;
}

/// Sixteen elements of c = a bᵀ against sums in float64: one rounding to bf16 apart.
void check_product(std::int64_t n, const kd::bf16* a, const kd::bf16* b, const kd::bf16* c) {
  const kd::Rng random(1, kd::RngPurpose::test);
  for (std::uint32_t k = 0; k < 16; ++k) {
    const auto row = static_cast<std::int64_t>(random.below(2 * k, static_cast<std::uint64_t>(n))),
               column = static_cast<std::int64_t>(random.below(2 * k + 1, static_cast<std::uint64_t>(n)));
    const auto x = to_host(a + row * n, n), y = to_host(b + column * n, n);
    double sum = 0, largest = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double term = static_cast<double>(static_cast<float>(x[i])) * static_cast<double>(static_cast<float>(y[i]));
      sum += term, largest += std::abs(term);
    }
    const double got = static_cast<double>(static_cast<float>(to_host(c + row * n + column, 1)[0]));
    kd::require<kd::Error>(std::abs(got - sum) <= std::abs(sum) / 256 + 1e-5 * largest, "[bench] element ", row, ", ",
                           column, " of the product is ", got, ", in float64 ", sum);
  }
}

void measure_copy(std::int64_t mib) {
  const std::int64_t bytes = mib << 20;
  const kd::Buffer<unsigned char, kd::Cuda> from(bytes), to(bytes);
  kd::Memory<kd::Cuda>::fill_zero(from.data(), static_cast<std::size_t>(bytes));
  const double s =
      seconds_of([&] { kd::Memory<kd::Cuda>::copy(to.data(), from.data(), static_cast<std::size_t>(bytes)); });
  std::printf("copy of %lld MiB: %.1f GB/s read and written\n", static_cast<long long>(mib),
              2 * static_cast<double>(bytes) / s / 1e9);
}

void measure_product(std::int64_t n) {
  const kd::Buffer<kd::bf16, kd::Cuda> a(n * n), b(n * n), c(n * n);
  K::fill_normal(n * n, 1, 1, 0, a.data());
  K::fill_normal(n * n, 1, 1, 1, b.data());
  const auto multiply = [&] { K::gemm(false, true, n, n, n, 1, a.data(), n, b.data(), n, 0, c.data(), n); };
  multiply();
  check_product(n, a.data(), b.data(), c.data());
  const double s = seconds_of(multiply);
  std::printf("product of %lld cubed in bf16: %.1f TFLOP/s\n", static_cast<long long>(n),
              2 * std::pow(static_cast<double>(n), 3) / s / 1e12);
}

}  // namespace

int main(int argc, char** argv) try {
  std::int64_t size = 8192, mib = 4096;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--size") size = std::atoll(argv[i + 1]);
    else if (option == "--mib") mib = std::atoll(argv[i + 1]);
    else kd::fail<kd::ConfigError>(option, " is not an option: --size, --mib");
  }
  kd::require<kd::ConfigError>(argc % 2 == 1, argv[argc - 1], " has no value");
  kd::require<kd::ConfigError>(size > 0 && mib > 0, "--size ", size, ", --mib ", mib, ": both must be above 0");
  kd::Memory<kd::Cuda>::require_ready();
  measure_copy(mib);
  measure_product(size);
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
