// SPDX-License-Identifier: Apache-2.0
// Products of bf16 by oneDNN (AMX, AVX512-BF16) against Kernels<Cpu, double> on the same rounded inputs, and the choice
// between them and the float code.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/parallel.hpp"
#include "support/catch.hpp"
#include "support/instances.hpp"
#include "support/numbers.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {
using K = Kernels<Cpu, bf16>;
constexpr double rounded_once = 4e-3, in_float = 1e-5;  // ||a - b|| / ||b||

/// rows x columns numbers with `gap` more in each row, which no product may read as its own or write.
template <class T>
struct Grid {
  std::int64_t rows, columns, ld;
  std::vector<T> real;
  std::vector<double> wide;

  Grid(std::int64_t r, std::int64_t c, std::int64_t gap, std::uint64_t seed) : rows(r), columns(c), ld(c + gap) {
    for (const double x : spread_numbers(r * ld, seed, 1, 0)) real.push_back(static_cast<T>(x));
    wide.assign(real.begin(), real.end());
  }
  double error() const { return std::sqrt(normalised_square_error(real.data(), wide.data(), real.size())); }
  bool same_bytes(const Grid& other) const {
    return std::memcmp(real.data(), other.real.data(), real.size() * sizeof(T)) == 0;
  }
  bool gap_kept(const Grid& before) const {
    for (std::int64_t r = 0; r < rows; ++r)
      if (std::memcmp(real.data() + r * ld + columns, before.real.data() + r * ld + columns,
                      static_cast<std::size_t>(ld - columns) * sizeof(T)) != 0)
        return false;
    return true;
  }
};

struct Threads {
  explicit Threads(int n) : before(thread_count()) { set_thread_count(n); }
  ~Threads() { set_thread_count(before); }
  int before;
};

constexpr const char* not_here =
    "no oneDNN here, or no BF16 instructions that are faster than floats: bf16 products are in float";
bool by_onednn() { return detail::narrow_unit() != detail::NarrowUnit::none; }

struct Size {
  std::int64_t m, n, k, gap;
};

/// One product in every kind: C of `C`, A of `A`, against double.
template <class A, class C>
void check(const Size& s, bool ta, bool tb, float alpha, float beta, double limit) {
  CAPTURE(s.m, s.n, s.k, s.gap, ta, tb, alpha, beta, sizeof(A), sizeof(C));
  const Grid<A> a(ta ? s.k : s.m, ta ? s.m : s.k, s.gap, 1);
  const Grid<bf16> b(tb ? s.n : s.k, tb ? s.k : s.n, s.gap, 2);
  Grid<C> c(s.m, s.n, s.gap, 3), again = c;
  const Grid<C> before = c;
  K::gemm(ta, tb, s.m, s.n, s.k, alpha, a.real.data(), a.ld, b.real.data(), b.ld, beta, c.real.data(), c.ld);
  K::gemm(ta, tb, s.m, s.n, s.k, alpha, a.real.data(), a.ld, b.real.data(), b.ld, beta, again.real.data(), c.ld);
  Kernels<Cpu, double>::gemm(ta, tb, s.m, s.n, s.k, alpha, a.wide.data(), a.ld, b.wide.data(), b.ld, beta,
                             c.wide.data(), c.ld);
  CHECK(c.error() <= limit);
  CHECK(c.same_bytes(again));
  CHECK(c.gap_kept(before));
}

}  // namespace

TEST_CASE("products by oneDNN equal those in double: odd sizes, transpositions, factors, kinds, gaps",
          "[backend][bf16]") {
  if (!by_onednn()) KDLIB_SKIP(not_here);
  for (const int threads : {1, 2, 3}) {
    const Threads guard(threads);
    for (const Size s : {Size{65, 130, 129, 0}, Size{300, 71, 33, 5}, Size{33, 600, 16, 0}, Size{9, 1300, 40, 3},
                         Size{701, 48, 1100, 0}, Size{257, 1, 1500, 1}, Size{2100, 16, 70, 0}}) {
      if (threads == 3 && s.m > 300) continue;
      for (const int flags : {0, 1, 2, 3}) {
        const bool ta = (flags & 1) != 0, tb = (flags & 2) != 0;
        check<bf16, bf16>(s, ta, tb, 1, 0, rounded_once);
        check<bf16, bf16>(s, ta, tb, 0.5f, 1, rounded_once);
        check<bf16, float>(s, ta, tb, 1, 1, in_float);
        check<bf16, float>(s, ta, tb, -1.75f, 0.5f, in_float);
        check<float, bf16>(s, ta, tb, 1, 0, rounded_once);
        check<float, float>(s, ta, tb, 1, 1, rounded_once);
      }
    }
  }
}

TEST_CASE("few rows by vdpbf16ps equal those in double, and no row changes another's bits", "[backend][bf16]") {
  if (!detail::takes_narrow_rows(false, true, 16, 32)) KDLIB_SKIP("this CPU has no AVX512-BF16");
  for (const int threads : {1, 3}) {
    const Threads guard(threads);
    for (const std::int64_t m : {9, 16, 17, 24, 32})
      for (const Size s : {Size{m, 1, 1, 0}, Size{m, 15, 2, 1}, Size{m, 16, 33, 0}, Size{m, 33, 575, 0},
                           Size{m, 150, 576, 0}, Size{m, 1300, 7, 0}}) {
        for (const float beta : {0.0f, 1.0f, -0.5f}) {
          check<bf16, bf16>(s, false, true, 1, beta, rounded_once);
          check<bf16, float>(s, false, true, -1.75f, beta, in_float);
        }
      }
  }
  constexpr std::int64_t n = 70, k = 130;
  const Grid<bf16> a(32, k, 0, 1), b(n, k, 0, 2);
  Grid<float> whole(32, n, 0, 3), few(9, n, 0, 3);
  K::gemm(false, true, 32, n, k, 1, a.real.data(), k, b.real.data(), k, 0, whole.real.data(), n);
  for (const std::int64_t first : {0, 11, 23}) {
    K::gemm(false, true, 9, n, k, 1, a.real.data() + first * k, k, b.real.data(), k, 0, few.real.data(), n);
    CHECK(std::memcmp(few.real.data(), whole.real.data() + first * n, few.real.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("products by oneDNN without terms, rows or columns", "[backend][bf16]") {
  Grid<bf16> a(300, 300, 0, 1), c(300, 300, 0, 3);
  const Grid<bf16> before = c;
  K::gemm(false, true, 0, 300, 300, 1, a.real.data(), 300, a.real.data(), 300, 0, c.real.data(), 300);
  K::gemm(false, true, 300, 0, 300, 1, a.real.data(), 300, a.real.data(), 300, 0, c.real.data(), 300);
  CHECK(c.same_bytes(before));
  K::gemm(false, true, 300, 300, 0, 1, a.real.data(), 300, a.real.data(), 300, 1, c.real.data(), 300);
  CHECK(c.same_bytes(before));
  K::gemm(false, true, 300, 300, 0, 1, a.real.data(), 300, a.real.data(), 300, 0, c.real.data(), 300);
  for (const bf16 x : c.real) REQUIRE(x.bits == 0);
}

TEST_CASE("products by oneDNN show a NaN in its own row alone, never read C for beta = 0, and keep exact zeros",
          "[backend][bf16]") {
  if (!by_onednn()) KDLIB_SKIP(not_here);
  constexpr std::int64_t m = 77, n = 90, k = 70;  // 64 rows, then 13 with zeros behind them
  Grid<bf16> a(m, k, 0, 1), b(n, k, 0, 2), c(m, n, 0, 3);
  Grid<float> gradient(m, k, 0, 4);
  c.real.assign(c.real.size(), bf16(std::numeric_limits<float>::quiet_NaN()));
  for (const std::int64_t row : {3, 70}) {
    Grid<bf16> with = a;
    with.real[static_cast<std::size_t>(row * k + 5)] = bf16(std::numeric_limits<float>::quiet_NaN());
    K::gemm(false, true, m, n, k, 1, with.real.data(), k, b.real.data(), k, 0, c.real.data(), n);
    bool right = true;
    for (std::int64_t i = 0; i < m * n; ++i)
      right = right && std::isnan(static_cast<float>(c.real[static_cast<std::size_t>(i)])) == (i / n == row);
    CHECK(right);
  }
  // p = q: the gradient of every logit is zero, and so is that of the hidden states and of the head.
  gradient.real.assign(gradient.real.size(), 0.0f);
  Grid<float> head(k, n, 0, 5);
  head.real.assign(head.real.size(), 0.0f);
  K::gemm(false, true, m, n, k, 1, gradient.real.data(), k, b.real.data(), k, 0, c.real.data(), n);
  K::gemm(true, true, k, n, m, 1, gradient.real.data(), k, Grid<bf16>(n, m, 0, 6).real.data(), m, 1, head.real.data(),
          n);
  bool zero = true;
  for (const bf16 x : c.real) zero = zero && static_cast<float>(x) == 0;
  for (const float x : head.real) zero = zero && x == 0;
  CHECK(zero);
}

TEST_CASE("oneDNN multiplies bf16 where it is faster than floats, or where told to", "[backend][bf16]") {
  using detail::NarrowUnit;
  for (const char* word : {static_cast<const char*>(nullptr), "auto"}) {
    CHECK(detail::onednn_pays(NarrowUnit::amx, false, word));
    CHECK(detail::onednn_pays(NarrowUnit::avx512_bf16, true, word));
    CHECK_FALSE(detail::onednn_pays(NarrowUnit::avx512_bf16, false, word));
    CHECK_FALSE(detail::onednn_pays(NarrowUnit::none, true, word));
  }
  CHECK(detail::onednn_pays(NarrowUnit::avx512_bf16, false, "onednn"));
  CHECK_FALSE(detail::onednn_pays(NarrowUnit::none, false, "onednn"));
  CHECK_FALSE(detail::onednn_pays(NarrowUnit::amx, true, "float"));
  CHECK_THROWS_WITH(detail::onednn_pays(NarrowUnit::amx, false, "fast"),
                    "[bf16 products] KDLIB_BF16_PRODUCTS=fast is unknown; it can be auto, onednn or float");
}

TEST_CASE("below the level avx512 bf16 is multiplied in float, and the environment says which runs",
          "[backend][bf16]") {
  const char* forced = std::getenv("KDLIB_CPU_LEVEL");
  if (forced != nullptr && std::string(forced) != "avx512") CHECK(cpu_narrow_name() == "bf16 products in float");
  const CpuLevel level = cpu_level();
  if (detail::narrow_unit() != detail::NarrowUnit::none) {
    CHECK(cpu_narrow_name().rfind("bf16 products by oneDNN ", 0) == 0);
    CHECK(cpu_narrow_name().find("no BF16") == std::string::npos);
  }
  CHECK(K::environment().find(cpu_narrow_name()) != std::string::npos);
  for (const CpuLevel lower : {CpuLevel::portable, CpuLevel::avx2}) {
    if (lower > level) continue;
    set_cpu_level(lower);
    CHECK(detail::narrow_unit() == detail::NarrowUnit::none);
    CHECK(K::environment().find(", bf16 products in float") != std::string::npos);
    check<bf16, bf16>({70, 90, 80, 2}, false, true, 1, 1, rounded_once);
    check<float, float>({70, 90, 80, 2}, true, false, 1, 1, in_float);  // float factors are not rounded
  }
  set_cpu_level(level);
}
