// SPDX-License-Identifier: Apache-2.0
// Kernels<Cpu, T> against plain loops in double, at every instruction set this CPU has and for several thread counts.
#include "kdlib/backend/cpu.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kdlib/core/rng.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using kdlib_tests::max_difference;
using kdlib_tests::scaled_difference;
using kdlib_tests::Tolerance;

namespace {

template <class T>
std::vector<T> random(std::int64_t n, std::uint32_t row, double scale = 1) {
  std::vector<T> x(static_cast<std::size_t>(n));
  const Rng rng(21, RngPurpose::test, 0, row);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<T>(scale * (2 * rng.uniform(static_cast<std::uint32_t>(i)) - 1));
  return x;
}

/// Runs f at every level; those that this CPU lacks are named.
template <class F>
void at_every_level(F&& f) {
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > detail::best_cpu_level()) {
      WARN("skipped on this CPU: " << cpu_level_name(level));
      continue;
    }
    set_cpu_level(level);
    CAPTURE(cpu_level_name(level));
    f();
  }
  set_cpu_level(detail::best_cpu_level());
}

struct Threads {
  explicit Threads(int n) : before(thread_count()) { set_thread_count(n); }
  ~Threads() { set_thread_count(before); }
  int before;
};

template <class T>
void check_gemm(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, T beta) {
  CAPTURE(ta, tb, m, n, k, alpha, beta);
  const std::int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
  const auto a = random<T>((ta ? k : m) * lda, 1), b = random<T>((tb ? n : k) * ldb, 2);
  auto c = random<T>(m * ldc, 3);
  if (beta == T{0}) std::fill(c.begin(), c.end(), static_cast<T>(NAN));  // beta = 0 never reads C
  std::vector<double> expected(c.begin(), c.end());
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l)
        sum += static_cast<double>(a[static_cast<std::size_t>(ta ? l * lda + i : i * lda + l)]) *
               static_cast<double>(b[static_cast<std::size_t>(tb ? j * ldb + l : l * ldb + j)]);
      double& e = expected[static_cast<std::size_t>(i * ldc + j)];
      e = static_cast<double>(alpha) * sum + (beta == T{0} ? 0 : static_cast<double>(beta) * e);
    }
  Kernels<Cpu, T>::gemm(ta, tb, m, n, k, alpha, a.data(), lda, b.data(), ldb, beta, c.data(), ldc);
  for (std::int64_t i = 0; i < m; ++i)
    REQUIRE(max_difference(c.data() + i * ldc, expected.data() + i * ldc, static_cast<std::size_t>(n)) <
            Tolerance<T>::reduction);
}

}  // namespace

TEMPLATE_TEST_CASE("gemm equals the triple loop for every transposition, size and scale", "[backend][cpu]", float,
                   double) {
  using T = TestType;
  at_every_level([&] {
    for (const int threads : {1, 2, 3}) {
      const Threads scope(threads);
      for (const bool ta : {false, true})
        for (const bool tb : {false, true}) {
          check_gemm<T>(ta, tb, 1, 1, 1, T(1), T(0));
          check_gemm<T>(ta, tb, 3, 70, 33, T(0.5), T(1));
          check_gemm<T>(ta, tb, 65, 7, 40, T(1), T(0));
          check_gemm<T>(ta, tb, 130, 190, 20, T(2), T(-0.5));
          check_gemm<T>(ta, tb, 5, 9, 0, T(1), T(0.5));
        }
      for (const std::int64_t m : {1, 2, 3, 4, 5, 8, 23, 24, 25})
        for (const std::int64_t n : {1, 3, 4, 49}) check_gemm<T>(false, true, m, n, 67, T(1), m % 2 == 0 ? T(1) : T(0));
    }
  });
}

TEST_CASE("gemm refuses extents that a BLAS cannot hold", "[backend][cpu]") {
  float x = 0;
  CHECK_THROWS_AS((Kernels<Cpu, float>::gemm(false, true, 1, std::int64_t{1} << 31, 1, 1, &x, 1, &x, 1, 0, &x, 1)),
                  ShapeError);
}

TEMPLATE_TEST_CASE("swiglu and its gradient equal the closed form, also far from zero", "[backend][cpu]", float,
                   double) {
  using T = TestType;
  using K = Kernels<Cpu, T>;
  at_every_level([&] {
    const std::int64_t n = 1003;
    auto gate = random<T>(n, 1, 120);
    gate[0] = 0, gate[1] = T(-1000), gate[2] = T(1000), gate[3] = T(-88), gate[4] = T(88);
    const auto up = random<T>(n, 2), d = random<T>(n, 3);
    std::vector<T> y(gate.size()), dg(gate.size()), du(gate.size());
    K::swiglu(gate.data(), up.data(), n, y.data());
    K::swiglu_backward(gate.data(), up.data(), d.data(), n, dg.data(), du.data());
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = static_cast<double>(gate[i]), s = 1 / (1 + std::exp(-g)), u = static_cast<double>(up[i]),
                   e = static_cast<double>(d[i]);
      CAPTURE(g);
      REQUIRE(kdlib_tests::near(static_cast<double>(y[i]), g * s * u, Tolerance<T>::elementwise));
      REQUIRE(kdlib_tests::near(static_cast<double>(du[i]), e * g * s, Tolerance<T>::elementwise));
      REQUIRE(
          kdlib_tests::near(static_cast<double>(dg[i]), e * u * s * (1 + g * (1 - s)), 4 * Tolerance<T>::elementwise));
    }
    gate[7] = static_cast<T>(NAN);
    K::swiglu(gate.data(), up.data(), n, y.data());
    CHECK(std::isnan(static_cast<double>(y[7])));
  });
}

TEMPLATE_TEST_CASE("geglu and its gradient equal the closed form, also far from zero", "[backend][cpu]", float,
                   double) {
  using T = TestType;
  using K = Kernels<Cpu, T>;
  at_every_level([&] {
    const std::int64_t n = 1003;
    auto gate = random<T>(n, 1, 8);
    gate[0] = 0, gate[1] = T(-1000), gate[2] = T(1000), gate[3] = T(-1e30), gate[4] = T(1e30);
    const auto up = random<T>(n, 2), d = random<T>(n, 3);
    std::vector<T> y(gate.size()), dg(gate.size()), du(gate.size());
    K::geglu(gate.data(), up.data(), n, y.data());
    K::geglu_backward(gate.data(), up.data(), d.data(), n, dg.data(), du.data());
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = static_cast<double>(gate[i]), u = static_cast<double>(up[i]), e = static_cast<double>(d[i]);
      const double x = std::clamp(g, -50.0, 50.0), root = std::sqrt(2 / std::acos(-1.0));
      const double t = std::tanh(root * (x + 0.044715 * x * x * x));
      const double slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
      CAPTURE(g);
      REQUIRE(kdlib_tests::near(static_cast<double>(y[i]), 0.5 * g * (1 + t) * u, 2 * Tolerance<T>::elementwise));
      REQUIRE(kdlib_tests::near(static_cast<double>(du[i]), 0.5 * g * (1 + t) * e, 2 * Tolerance<T>::elementwise));
      REQUIRE(kdlib_tests::near(static_cast<double>(dg[i]), e * u * slope, 4 * Tolerance<T>::elementwise));
    }
    gate[7] = static_cast<T>(NAN);
    K::geglu(gate.data(), up.data(), n, y.data());
    CHECK(std::isnan(static_cast<double>(y[7])));
  });
}

TEMPLATE_TEST_CASE("soft-capped logits equal cap tanh(z / cap), relative to their size, and so do their gradients",
                   "[backend][cpu]", float, double) {
  using T = TestType;
  using R = RowKernels<Cpu, T>;
  at_every_level([&] {
    const std::int64_t rows = 3, columns = 401;
    std::vector<T> z = random<T>(rows * columns, 1, 90);
    for (std::size_t i = 0; i < 300; ++i) z[i] *= static_cast<T>(std::pow(0.9, static_cast<double>(i)));
    z[300] = 0, z[301] = T(1e30), z[302] = T(-1e30), z[303] = T(18.75), z[304] = T(-18.7499);
    const std::vector<T> before = z, d = random<T>(rows * columns, 2);
    std::vector<T> gradient = d;
    R::modify_logits(nullptr, T{1}, 30, rows, columns, z.data());
    R::softcap_backward(30, rows, columns, z.data(), gradient.data());
    for (std::size_t i = 0; i < z.size(); ++i) {
      const double t = std::tanh(static_cast<double>(before[i]) / 30);
      CAPTURE(before[i]);
      REQUIRE(std::abs(static_cast<double>(z[i]) - 30 * t) <= Tolerance<T>::elementwise * std::abs(30 * t));
      REQUIRE(kdlib_tests::near(static_cast<double>(gradient[i]), static_cast<double>(d[i]) * (1 - t * t),
                                Tolerance<T>::elementwise));
    }
    z[5] = static_cast<T>(NAN);
    R::modify_logits(nullptr, T{1}, 30, rows, columns, z.data());
    CHECK(std::isnan(static_cast<double>(z[5])));
  });
}

TEMPLATE_TEST_CASE("soft-capped attention in float and double, whole and one query at a time, equals the formula",
                   "[backend][cpu]", float, double) {
  using T = TestType;
  at_every_level([&] {
    const AttentionHeads heads{2, 1, 20, 9, 0.4, 1.5};
    const std::int64_t n = 70, d = 20;
    const auto q = random<T>(n * 2 * d, 1, 2), k = random<T>(n * d, 2, 2), v = random<T>(n * d, 3);
    const std::vector<std::int64_t> offsets = {0, n};
    std::vector<T> out(q.size()), step(q.size()), keys(k.size()), values(v.size());
    Kernels<Cpu, T>::attention(heads, {offsets.data(), 1, n}, q.data(), k.data(), v.data(), out.data(), nullptr);
    const std::vector<std::int64_t> one = {0, 1};
    for (std::int64_t t = 0; t < n; ++t) {
      const std::int32_t slot = 0;
      Kernels<Cpu, T>::attention_decode(heads, {one.data(), 1, 1}, {keys.data(), values.data(), n, &slot, &t},
                                        q.data() + t * 2 * d, k.data() + t * d, v.data() + t * d,
                                        step.data() + t * 2 * d, nullptr);
    }
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t h = 0; h < 2; ++h) {
        std::vector<double> expected(static_cast<std::size_t>(d), 0.0);
        double sum = 0;
        for (std::int64_t s = std::max<std::int64_t>(0, t - 8); s <= t; ++s) {
          double dot = 0;
          for (std::int64_t i = 0; i < d; ++i)
            dot += static_cast<double>(q[static_cast<std::size_t>((t * 2 + h) * d + i)]) *
                   static_cast<double>(k[static_cast<std::size_t>(s * d + i)]);
          const double p = std::exp(1.5 * std::tanh(0.4 * dot / 1.5));
          sum += p;
          for (std::int64_t i = 0; i < d; ++i)
            expected[static_cast<std::size_t>(i)] += p * static_cast<double>(v[static_cast<std::size_t>(s * d + i)]);
        }
        for (double& e : expected) e /= sum;
        const auto at = static_cast<std::size_t>((t * 2 + h) * d);
        REQUIRE(max_difference(&out[at], expected.data(), expected.size()) < Tolerance<T>::reduction);
        REQUIRE(max_difference(&step[at], expected.data(), expected.size()) < Tolerance<T>::reduction);
      }
  });
}

TEMPLATE_TEST_CASE("fill_normal gives the moments of a normal distribution, each number by its place alone",
                   "[backend][cpu]", float, double) {
  using T = TestType;
  using K = Kernels<Cpu, T>;
  const std::int64_t n = 400'000;
  std::vector<T> x(n), part(1000), other(1000);
  K::fill_normal(n, 0.02, 7, 3, x.data());
  double moments[5] = {};
  for (const T v : x)
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(static_cast<double>(v) / 0.02, k) / static_cast<double>(n);
  const double error = 6 / std::sqrt(static_cast<double>(n));  // of six deviations: sqrt(1, 2, 15, 96) / sqrt(n)
  CHECK(std::abs(moments[1]) < error);
  CHECK(std::abs(moments[2] - 1) < 1.5 * error);
  CHECK(std::abs(moments[3]) < 4 * error);
  CHECK(std::abs(moments[4] - 3) < 10 * error);
  K::fill_normal(1000, 0.02, 7, 3, part.data());
  CHECK(std::equal(part.begin(), part.end(), x.begin()));
  K::fill_normal(1000, 0.02, 7, 4, other.data());
  CHECK(part != other);
  K::fill_normal(1000, 0.02, 8, 3, other.data());
  CHECK(part != other);
}

TEMPLATE_TEST_CASE("rms_norm, add, axpy, scale, bias, sums, gather and scatter equal plain loops", "[backend][cpu]",
                   float, double) {
  using T = TestType;
  using K = Kernels<Cpu, T>;
  at_every_level([&] {
    const std::int64_t rows = 37, width = 301;
    const auto n = static_cast<std::size_t>(rows * width);
    const auto x = random<T>(rows * width, 1), w = random<T>(width, 2);
    std::vector<T> y(n), inverse(rows), z(n);
    K::rms_norm(x.data(), w.data(), rows, width, 1e-5, y.data(), inverse.data());
    std::vector<double> expected(n);
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::size_t i = 0; i < width; ++i)
        sum += static_cast<double>(x[r * width + i]) * static_cast<double>(x[r * width + i]);
      const double s = 1 / std::sqrt(sum / width + 1e-5);
      for (std::size_t i = 0; i < width; ++i)
        expected[r * width + i] = static_cast<double>(x[r * width + i]) * s * static_cast<double>(w[i]);
    }
    CHECK(max_difference(y.data(), expected.data(), n) < Tolerance<T>::reduction);

    K::add(x.data(), y.data(), rows * width, z.data());
    K::axpy(rows * width, T(-2), y.data(), z.data());
    K::scale(rows * width, T(0.5), z.data());
    K::add_bias(w.data(), rows, width, z.data());
    for (std::size_t i = 0; i < n; ++i)
      expected[i] = (static_cast<double>(x[i]) - static_cast<double>(y[i])) * 0.5 + static_cast<double>(w[i % width]);
    CHECK(max_difference(z.data(), expected.data(), n) < 4 * Tolerance<T>::elementwise);

    std::vector<T> sums(width, T{1});
    K::add_column_sums(x.data(), rows, width, sums.data());
    std::vector<double> sums_expected(width, 1);
    double squares = 0;
    for (std::size_t i = 0; i < n; ++i) {
      sums_expected[i % width] += static_cast<double>(x[i]);
      squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    }
    CHECK(max_difference(sums.data(), sums_expected.data(), width) < Tolerance<T>::reduction);
    CHECK(kdlib_tests::near(K::sum_squares(x.data(), rows * width), squares, Tolerance<T>::reduction));

    const std::vector<std::int64_t> pick = {36, 0, 5};
    std::vector<T> some(3 * width);
    K::gather_rows(x.data(), pick.data(), 3, width, some.data());
    CHECK(std::equal(some.begin(), some.begin() + width, x.begin() + 36 * width));
    std::vector<T> back(n, T{1});
    K::scatter_add_rows(some.data(), pick.data(), 3, width, back.data());
    CHECK(back[5 * width + 7] == T{1} + x[5 * width + 7]);
    CHECK(back[6 * width + 7] == T{1});
  });
}

TEMPLATE_TEST_CASE("adamw equals the formula of the paper over several steps", "[backend][cpu]", float, double) {
  using T = TestType;
  at_every_level([&] {
    const std::int64_t n = 101;
    auto value = random<T>(n, 1);
    std::vector<T> first(n, T{0}), second(n, T{0});
    std::vector<double> p(value.begin(), value.end()), m(n, 0), v(n, 0);
    for (int t = 1; t <= 4; ++t) {
      const auto g = random<T>(n, static_cast<std::uint32_t>(t) + 5);
      AdamWStep step{.rate = 0.01, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1};
      step.correction1 = 1 - std::pow(0.9, t);
      step.correction2 = 1 - std::pow(0.95, t);
      step.gradient_scale = 0.5;
      Kernels<Cpu, T>::adamw(step, n, g.data(), first.data(), second.data(), value.data());
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
        const double x = 0.5 * static_cast<double>(g[i]);
        m[i] = 0.9 * m[i] + 0.1 * x;
        v[i] = 0.95 * v[i] + 0.05 * x * x;
        p[i] = p[i] * (1 - 0.01 * 0.1) - 0.01 * (m[i] / step.correction1) / (std::sqrt(v[i] / step.correction2) + 1e-8);
      }
    }
    CHECK(max_difference(value.data(), p.data(), p.size()) < 10 * Tolerance<T>::elementwise);
  });
}

TEST_CASE("results repeat bit for bit for a fixed thread count, and few kernels depend on it", "[backend][cpu]") {
  using K = Kernels<Cpu, float>;
  const AttentionHeads heads{6, 2, 16, 0, 0.25};
  const std::vector<std::int64_t> offsets = {0, 5, 90, 91, 200};
  const DocumentRanges documents{offsets.data(), 4, 200};
  const auto q = random<float>(200 * 96, 1), k = random<float>(200 * 32, 2), v = random<float>(200 * 32, 3),
             g = random<float>(200 * 96, 4);
  const auto run = [&] {
    std::vector<float> out(200 * 96), sums(200 * 6), dq(200 * 96), dk(200 * 32), dv(200 * 32);
    K::attention(heads, documents, q.data(), k.data(), v.data(), out.data(), sums.data());
    K::attention_backward(heads, documents, q.data(), k.data(), v.data(), out.data(), sums.data(), g.data(), dq.data(),
                          dk.data(), dv.data());
    for (const auto& more : {dq, dk, dv}) out.insert(out.end(), more.begin(), more.end());
    out.push_back(static_cast<float>(K::sum_squares(q.data(), 200 * 96)));
    return out;
  };
  const auto expected = run();
  for (const int threads : {1, 2, 3, 5}) {
    const Threads scope(threads);
    CHECK(run() == expected);
    CHECK(run() == expected);
  }
}

TEST_CASE("attention with large scores stays finite and gives weight to the largest", "[backend][cpu]") {
  const AttentionHeads heads{1, 1, 4, 0, 1.0};
  const std::vector<std::int64_t> offsets = {0, 3};
  const std::vector<float> q = {100, 0, 0, 0, 100, 0, 0, 0, 100, 0, 0, 0},
                           k = {100, 0, 0, 0, -100, 0, 0, 0, 90, 0, 0, 0};
  const std::vector<float> v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  std::vector<float> out(12);
  Kernels<Cpu, float>::attention(heads, {offsets.data(), 1, 3}, q.data(), k.data(), v.data(), out.data(), nullptr);
  CHECK(out == std::vector<float>{1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4});
}

TEST_CASE("the level of instructions can be lowered but not raised beyond the CPU", "[backend][cpu]") {
  const CpuLevel best = detail::best_cpu_level();
  set_cpu_level(CpuLevel::portable);
  CHECK(cpu_level() == CpuLevel::portable);
  set_cpu_level(best);
  if (best < CpuLevel::avx512) CHECK_THROWS_AS(set_cpu_level(CpuLevel::avx512), BackendError);
  CHECK(std::string(cpu_blas_name()).size() > 4);
}
