// SPDX-License-Identifier: Apache-2.0
// Tokens that the device draws against sample_token on the same logits: ids, probabilities and refusals.
#include <algorithm>
#include <cmath>

#include "cuda/kernel_cases.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/rollout/sampler.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

struct Rows {
  std::int64_t rows, columns;
  std::vector<double> logits, uniform;

  Rows(std::int64_t r, std::int64_t c, std::uint64_t seed, double spread)
      : rows(r), columns(c), logits(spread_numbers(r * c, seed, spread, 0)) {
    const Rng rng(seed, RngPurpose::test, 3);
    for (std::int64_t i = 0; i < r; ++i) uniform.push_back(rng.uniform(static_cast<std::uint32_t>(i)));
  }
};

/// The logits as the device has them, in float.
template <class T>
std::vector<float> widened(const Array<T>& array) {
  const std::vector<T> host = array.host();
  return {host.begin(), host.end()};
}

/// `uniform` lies within rounding of the interval of token `id` in the distribution function.
bool may_be(const Sampler& sampler, std::span<const float> logits, double uniform, std::int32_t id) {
  const std::vector<double> p = sampling_distribution(sampler, logits);
  double below = 0;
  for (std::int32_t i = 0; i < id; ++i) below += p[static_cast<std::size_t>(i)];
  return uniform >= below - 1e-6 && uniform <= below + p[static_cast<std::size_t>(id)] + 1e-6;
}

template <class T>
std::vector<SampledToken> drawn(const Sampler& sampler, const Array<T>& logits, const Rows& r) {
  return sample_tokens(sampler, View<const T, Cuda>(logits.device(), Shape{r.rows, r.columns}), r.uniform);
}

/// Compares every row with the host; the tokens that differ, which rounding must explain.
template <class T>
std::int64_t compare(const Sampler& sampler, const Rows& r) {
  const Array<T> logits(r.logits);
  const std::vector<float> host = widened(logits);
  const std::vector<SampledToken> tokens = drawn(sampler, logits, r), again = drawn(sampler, logits, r);
  std::int64_t differ = 0;
  SamplerWorkspace workspace;
  for (std::int64_t i = 0; i < r.rows; ++i) {
    CAPTURE(i, sampler.temperature.value(), sampler.top_k, sampler.top_p, sampler.min_p);
    const auto at = static_cast<std::size_t>(i);
    const std::span<const float> row(host.data() + i * r.columns, static_cast<std::size_t>(r.columns));
    const SampledToken expected = sample_token(sampler, row, r.uniform[at], workspace);
    const SampledToken& got = tokens[at];
    CHECK((got.id == again[at].id && got.log_prob == again[at].log_prob));
    if (got.id != expected.id) {
      ++differ;
      CHECK(may_be(sampler, row, r.uniform[at], got.id));
      continue;
    }
    CHECK(std::fabs(got.log_prob - expected.log_prob) <= 1e-5f);
    CHECK(std::fabs(got.full_log_prob - expected.full_log_prob) <= 1e-5f);
  }
  return differ;
}

}  // namespace

TEMPLATE_TEST_CASE("tokens drawn on CUDA are the host's, whole distribution and greedy", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  // Below one lane, below a block of 256, whole blocks, an odd end.
  for (const std::int64_t columns : {1, 5, 17, 255, 256, 777}) {
    const Rows r(5, columns, 7 + static_cast<std::uint64_t>(columns), 4);
    for (const double temperature : {0.0, 0.3, 1.0, 2.5})
      CHECK(compare<TestType>(Sampler{.temperature = temperature}, r) == 0);  // the sums have the host's bits
  }
}

TEMPLATE_TEST_CASE("filters on CUDA keep what the host keeps", "[cuda]", float, bf16) {
  KDLIB_NEEDS_DEVICE();
  const Rows r(4, 301, 3, 3);
  std::int64_t differ = 0;
  for (const std::int64_t top_k : {0, 1, 40, 700})
    for (const double top_p : {1.0, 0.9, 0.3})
      for (const double min_p : {0.0, 0.05}) {
        const double temperature = min_p > 0 ? 0.7 : 1.0;
        differ +=
            compare<TestType>(Sampler{.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p}, r);
      }
  CHECK(differ == 0);
}

TEST_CASE("equal logits on CUDA: the lowest id is the most probable, top-k keeps all that tie, top-p the lower ids",
          "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  Rows r(16, 40, 5, 1);
  for (std::int64_t i = 0; i < 16 * 40; ++i) r.logits[static_cast<std::size_t>(i)] = i % 40 < 10 ? 2.0 : -0.0;
  for (std::int64_t i = 0; i < 16 * 40; i += 7)
    if (i % 40 >= 10) r.logits[static_cast<std::size_t>(i)] = 0.0;
  for (const Sampler& sampler :
       {Sampler{.temperature = 0}, Sampler{.top_k = 3}, Sampler{.top_k = 15}, Sampler{.top_p = 0.2},
        Sampler{.top_p = 0.75}, Sampler{.min_p = 0.5}, Sampler{.top_k = 15, .top_p = 0.8, .min_p = 0.01}})
    CHECK(compare<float>(sampler, r) == 0);
  const Array<float> logits(r.logits);
  for (const SampledToken& token : drawn(Sampler{.temperature = 0}, logits, r)) CHECK(token.id == 0);
  for (const SampledToken& token : drawn(Sampler{.top_k = 3}, logits, r)) CHECK(token.id < 10);
  // 10 tokens share 0.665 of the mass: 0.2 of it all needs the first four.
  for (const SampledToken& token : drawn(Sampler{.top_p = 0.2}, logits, r)) CHECK(token.id < 4);
}

TEST_CASE("-inf is never drawn on CUDA; NaN, +inf and rows of -inf are refused as on the host", "[cuda]") {
  KDLIB_NEEDS_DEVICE();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  Rows r(3, 300, 9, 1);
  for (std::int64_t i = 0; i < 900; ++i)
    if (i % 300 != 137 && i % 300 != 290) r.logits[static_cast<std::size_t>(i)] = -infinity;
  CHECK(compare<float>(Sampler{}, r) == 0);
  const auto refused = [&](double x, std::int64_t at) {
    Rows bad = r;
    bad.logits[static_cast<std::size_t>(at)] = x;
    const Array<float> logits(bad.logits);
    return refusal([&] { drawn(Sampler{}, logits, bad); });
  };
  CHECK(refused(std::nan(""), 450).find("NaN or +inf") != std::string::npos);
  CHECK(refused(infinity, 899).find("NaN or +inf") != std::string::npos);
  std::fill(r.logits.begin(), r.logits.end(), -infinity);
  const Array<float> none(r.logits);
  CHECK(refusal([&] { drawn(Sampler{}, none, r); }).find("every logit is -inf") != std::string::npos);
  CHECK(refusal([&] {
          sample_tokens(Sampler{}, View<const float, Cuda>(none.device(), Shape{3, 300}), {});
        }).find("one a row") != std::string::npos);
  sample_tokens(Sampler{}, View<const float, Cuda>(none.device(), Shape{0, 300}), {});  // no row: nothing happens
}
