// SPDX-License-Identifier: Apache-2.0
// set_batch_invariant: a row's product has the same bits whatever rows stand beside it, at every level of the CPU, and
// is the product.
#include <cstring>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/quant/coded_matrix.hpp"
#include "kdlib/quant/stored_matrix.hpp"
#include "support/catch.hpp"
#include "support/instances.hpp"
#include "support/numbers.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

struct Invariant {
  CpuLevel level = cpu_level();
  int threads = thread_count();
  Invariant() { set_batch_invariant(true); }
  ~Invariant() {
    set_batch_invariant(false);
    set_cpu_level(level);
    set_thread_count(threads);
  }
};

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t seed) {
  std::vector<T> out;
  for (const double x : spread_numbers(n, seed, 1, 0)) out.push_back(static_cast<T>(x));
  return out;
}

/// product(first row, rows, out[rows, n]) of all rows at once, and in parts of several heights, at each level.
template <class T, class F>
void check(std::int64_t m, std::int64_t n, F&& product) {
  Invariant guard;
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > detail::best_cpu_level()) continue;
    set_cpu_level(level);
    set_thread_count(2);
    std::vector<T> whole(static_cast<std::size_t>(m * n)), part(whole.size());
    product(0, m, whole.data());
    for (const std::int64_t height : {1, 3, 7, 16, 33}) {
      CAPTURE(cpu_level_name(level), n, height, sizeof(T));
      set_thread_count(height == 3 ? 3 : 1);
      for (std::int64_t r = 0; r < m; r += height) product(r, std::min(height, m - r), part.data() + r * n);
      CHECK(std::memcmp(part.data(), whole.data(), whole.size() * sizeof(T)) == 0);
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("a row's product does not depend on its neighbours", "[backend][invariant]", float, double, bf16) {
  using K = Kernels<Cpu, TestType>;
  constexpr std::int64_t m = 70;
  for (const auto& size : {std::pair<std::int64_t, std::int64_t>{130, 96}, {61, 1600}, {700, 33}}) {
    const std::int64_t n = size.first, k = size.second;
    const auto x = numbers<TestType>(m * k, 1), w = numbers<TestType>(n * k, 2), y = numbers<TestType>(m * n, 3);
    for (const bool transposed : {true, false})
      check<TestType>(m, n, [&](std::int64_t row, std::int64_t rows, TestType* out) {
        std::copy_n(y.data() + row * n, rows * n, out);
        K::gemm(false, transposed, rows, n, k, 0.5f, x.data() + row * k, k, w.data(), transposed ? k : n, 1, out, n);
      });
  }
}

TEST_CASE("the product of invariant rows is the product", "[backend][invariant]") {
  const Invariant guard;
  constexpr std::int64_t m = 37, n = 65, k = 300;
  const auto x = numbers<float>(m * k, 1), w = numbers<float>(n * k, 2);
  auto y = numbers<float>(m * n, 3);
  const std::vector<double> wx(x.begin(), x.end()), ww(w.begin(), w.end());
  std::vector<double> expected(y.begin(), y.end()), got;
  Kernels<Cpu, float>::gemm(false, true, m, n, k, -1.5f, x.data(), k, w.data(), k, 0.25f, y.data(), n);
  set_batch_invariant(false);
  Kernels<Cpu, double>::gemm(false, true, m, n, k, -1.5, wx.data(), k, ww.data(), k, 0.25, expected.data(), n);
  got.assign(y.begin(), y.end());
  CHECK(max_difference(got.data(), expected.data(), got.size()) < 1e-4);  // sums of 300 terms, up to 20 in all
  set_batch_invariant(true);
  Kernels<Cpu, float>::gemm(false, false, m, n, k, -1.5f, x.data(), k, w.data(), n, 0.25f, y.data(), n);
  set_batch_invariant(false);
  Kernels<Cpu, double>::gemm(false, false, m, n, k, -1.5, wx.data(), k, ww.data(), n, 0.25, expected.data(), n);
  got.assign(y.begin(), y.end());
  CHECK(max_difference(got.data(), expected.data(), got.size()) < 1e-4);
}

TEMPLATE_TEST_CASE("nor does that with codes and with the formats of files", "[backend][invariant]", float, bf16) {
  constexpr std::int64_t m = 50, n = 72, k = 128;
  const auto x = numbers<TestType>(m * k, 1);
  const auto w = numbers<float>(n * k, 2);
  const auto multiply = [&](const PackedMatrix<TestType, Cpu>& matrix) {
    check<TestType>(m, n, [&](std::int64_t row, std::int64_t rows, TestType* out) {
      matrix.multiply(0, n, rows, x.data() + row * k, 0, out, n);
    });
  };
  for (const PackedKind kind : {PackedKind::int4, PackedKind::nf4, PackedKind::int8}) {
    const CodedData data = encode_weights(w.data(), n, k, {.kind = kind, .group_size = 32});
    multiply(CodedMatrix<TestType, Cpu>(data));
  }
  std::vector<std::byte> halves(static_cast<std::size_t>(n * k * 2)), blocks(static_cast<std::size_t>(n * k / 32 * 20));
  for (std::size_t i = 0; i < w.size(); ++i) {
    const bf16 half(w[i]);
    std::memcpy(halves.data() + 2 * i, &half, 2);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>((i * 37 + i / 20) % 47);
  multiply(StoredMatrix<TestType, Cpu>({GgufType::bf16, {halves.data()}, {}, n, k}, nullptr));
  multiply(StoredMatrix<TestType, Cpu>({GgufType::q4_1, {blocks.data()}, {}, n, k}, nullptr));
}
