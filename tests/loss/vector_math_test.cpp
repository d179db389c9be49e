// SPDX-License-Identifier: Apache-2.0
// Errors of the vector exp, expm1, log and log1p against long double, at every level this CPU has; conversions of bf16.
#include <cstring>

#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// |got - want| in units of the last place of want as a float.
double ulps(float got, long double want) {
  const float nearest = static_cast<float>(want);
  if (got == nearest) return 0;
  const double unit =
      static_cast<double>(std::nextafter(std::abs(nearest), INFINITY)) - static_cast<double>(std::abs(nearest));
  return static_cast<double>(std::abs(static_cast<long double>(got) - want)) / unit;
}

// The packs' functions carry their instruction set; these call them through memory so that the test itself needs none.
template <class P, class F>
void over(const std::vector<float>& x, std::vector<float>& y, F f) {
  for (std::size_t i = 0; i + static_cast<std::size_t>(P::width) <= x.size(); i += static_cast<std::size_t>(P::width))
    f(x.data() + i, y.data() + i);
}

#define KDLIB_TEST_FUNCTION(name, pack, target, expression) \
  target void name(const float* in, float* out) {           \
    const pack x = pack::load(in);                          \
    const pack y = expression;                              \
    y.store(out);                                           \
  }
#define KDLIB_TEST_FUNCTIONS(pack, target)                                        \
  KDLIB_TEST_FUNCTION(exp2_##pack, detail::pack, target, detail::pack::exp2(x))   \
  KDLIB_TEST_FUNCTION(exp_##pack, detail::pack, target, detail::pack::exp(x))     \
  KDLIB_TEST_FUNCTION(expm1_##pack, detail::pack, target, detail::pack::expm1(x)) \
  KDLIB_TEST_FUNCTION(log_##pack, detail::pack, target, detail::pack::log(x))     \
  KDLIB_TEST_FUNCTION(log1p_##pack, detail::pack, target, detail::pack::log1p(x)) \
  KDLIB_TEST_FUNCTION(sqrt_##pack, detail::pack, target, detail::pack::sqrt(x))   \
  KDLIB_TEST_FUNCTION(sign_##pack, detail::pack, target, detail::pack::sign(x))

KDLIB_TEST_FUNCTIONS(PortablePack, )
#if defined(__x86_64__)
KDLIB_TEST_FUNCTIONS(Avx2Pack, KDLIB_AVX2)
KDLIB_TEST_FUNCTIONS(Avx512Pack, KDLIB_AVX512)
#endif

struct Functions {
  void (*exp2)(const float*, float*);
  void (*exp)(const float*, float*);
  void (*expm1)(const float*, float*);
  void (*log)(const float*, float*);
  void (*log1p)(const float*, float*);
  void (*sqrt)(const float*, float*);
  void (*sign)(const float*, float*);
};

template <class P, class Exact>
double worst(void (*function)(const float*, float*), double low, double high, Exact exact, bool logarithmic = false) {
  Normal random(4);
  std::vector<float> x(1 << 17), y(x.size());
  for (float& v : x) {
    const double u = random.uniform();
    v = static_cast<float>(logarithmic ? low * std::pow(high / low, u) : low + (high - low) * u);
  }
  over<P>(x, y, function);
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) most = std::max(most, ulps(y[i], exact(static_cast<long double>(x[i]))));
  return most;
}

template <class P>
void check(const Functions& f) {
  // Units in the last place; what was measured stands in docs/losses.md.
  CHECK(worst<P>(f.exp2, -120, 20, [](long double x) { return std::exp2(x); }) < 4.0);
  CHECK(worst<P>(f.exp, -80, 80, [](long double x) { return std::exp(x); }) < 3.0);
  CHECK(worst<P>(f.expm1, -80, 80, [](long double x) { return std::expm1(x); }) < 3.0);
  CHECK(worst<P>(f.expm1, -1, 1, [](long double x) { return std::expm1(x); }) < 3.0);
  CHECK(worst<P>(
            f.expm1, 1e-12, 1e-2, [](long double x) { return std::expm1(x); }, true) < 3.0);
  CHECK(worst<P>(
            f.log, 1e-30, 1e30, [](long double x) { return std::log(x); }, true) < 3.0);
  CHECK(worst<P>(f.log, 0.5, 2, [](long double x) { return std::log(x); }) < 3.0);
  CHECK(worst<P>(f.log1p, -0.999, 4, [](long double x) { return std::log1p(x); }) < 3.0);
  CHECK(worst<P>(
            f.log1p, 1e-12, 1e26, [](long double x) { return std::log1p(x); }, true) < 3.0);
  CHECK(worst<P>(
            f.sqrt, 1e-30, 1e30, [](long double x) { return std::sqrt(x); }, true) < 0.51);

  std::vector<float> x(16, 0.0f), y(16);
  const auto at = [&](void (*function)(const float*, float*), float value) {
    x.assign(16, value);
    over<P>(x, y, function);
    return y[0];
  };
  CHECK(at(f.exp2, 0) == 1);
  CHECK(at(f.expm1, 0) == 0);
  CHECK(at(f.log1p, 0) == 0);
  CHECK(at(f.log, 1) == 0);
  CHECK(at(f.exp2, -1e6f) == 0);
  CHECK(at(f.exp2, -300) == 0);
  CHECK(at(f.expm1, -1e6f) == -1);
  CHECK(std::isnan(at(f.exp2, NAN)));
  CHECK(std::isnan(at(f.expm1, NAN)));
  CHECK(at(f.sign, -2) == -1);
  CHECK(at(f.sign, 0) == 0);
  CHECK(at(f.sign, 3) == 1);
}

#define KDLIB_TEST_SET(pack) \
  Functions { exp2_##pack, exp_##pack, expm1_##pack, log_##pack, log1p_##pack, sqrt_##pack, sign_##pack }

}  // namespace

TEST_CASE("vector maths: portable", "[loss]") { check<detail::PortablePack>(KDLIB_TEST_SET(PortablePack)); }
#if defined(__x86_64__)
TEST_CASE("vector maths: AVX2", "[loss]") {
  if (detail::best_cpu_level() < CpuLevel::avx2) KDLIB_SKIP("this CPU has no AVX2: the AVX2 vector maths did not run");
  check<detail::Avx2Pack>(KDLIB_TEST_SET(Avx2Pack));
}
TEST_CASE("vector maths: AVX-512", "[loss]") {
  if (detail::best_cpu_level() < CpuLevel::avx512)
    KDLIB_SKIP("this CPU has no AVX-512: the AVX-512 vector maths did not run");
  check<detail::Avx512Pack>(KDLIB_TEST_SET(Avx512Pack));
}
#endif

namespace {
#define KDLIB_TEST_ROUND_TRIP(pack, target)                                                     \
  target void round_trip_##pack(const bf16* in, float* middle, bf16* out, std::int64_t count) { \
    detail::pack::load_part(in, count, 7.0f).store(middle);                                     \
    detail::pack::load(middle).store_part(out, count);                                          \
  }                                                                                             \
  target void narrow_##pack(const float* in, bf16* out) { detail::pack::load(in).store(out); }
KDLIB_TEST_ROUND_TRIP(PortablePack, )
#if defined(__x86_64__)
KDLIB_TEST_ROUND_TRIP(Avx2Pack, KDLIB_AVX2)
KDLIB_TEST_ROUND_TRIP(Avx512Pack, KDLIB_AVX512)
#endif

template <class P>
void check_bf16(void (*round_trip)(const bf16*, float*, bf16*, std::int64_t), void (*narrow)(const float*, bf16*)) {
  constexpr auto width = static_cast<std::size_t>(P::width);
  Normal random(8);
  for (std::int64_t count = 1; count < P::width; ++count) {
    bf16 in[16], out[16];
    float middle[16];
    for (std::size_t i = 0; i < 16; ++i) in[i] = bf16(random()), out[i] = bf16(123.0f);
    round_trip(in, middle, out, count);
    for (std::size_t i = 0; i < width; ++i) {
      const bool inside = static_cast<std::int64_t>(i) < count;
      CHECK(middle[i] == (inside ? static_cast<float>(in[i]) : 7.0f));
      CHECK(out[i].bits == (inside ? in[i].bits : bf16(123.0f).bits));
    }
  }
  for (int k = 0; k < 2000; ++k) {
    float in[16];
    bf16 out[16];
    for (float& x : in) {
      const std::uint32_t bits = static_cast<std::uint32_t>(random.below(std::int64_t{1} << 32));
      std::memcpy(&x, &bits, 4);  // every kind of float: subnormal, infinite, NaN
    }
    narrow(in, out);
    for (std::size_t i = 0; i < width; ++i) {
      const bf16 want(in[i]);
      if (std::isnan(in[i])) CHECK(std::isnan(static_cast<float>(out[i])));
      else CHECK(out[i].bits == want.bits);
    }
  }
}
}  // namespace

TEST_CASE("packs read and write bf16 as the scalar type does", "[loss]") {
  check_bf16<detail::PortablePack>(round_trip_PortablePack, narrow_PortablePack);
#if defined(__x86_64__)
  if (detail::best_cpu_level() >= CpuLevel::avx2) check_bf16<detail::Avx2Pack>(round_trip_Avx2Pack, narrow_Avx2Pack);
  if (detail::best_cpu_level() >= CpuLevel::avx512)
    check_bf16<detail::Avx512Pack>(round_trip_Avx512Pack, narrow_Avx512Pack);
#endif
}
