// SPDX-License-Identifier: Apache-2.0
// Shared cores: the layer, its gradients, and the search for core and factors. The expected numbers were computed for
// the format's specification with NumPy in float64 on matrices from hash_value(); see also the laws.
#include "kdlib/model/compress_experts.hpp"

#include <algorithm>
#include <cmath>

#include "compress_support.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// FNV-1a of the name, then SplitMix64 of hash + index: in [-0.5, 0.5).
double hash_value(const std::string& name, std::uint64_t i) {
  std::uint64_t h = 0xcbf29ce484222325ull;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  std::uint64_t z = h + i + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return static_cast<double>(z >> 40) / 16777216.0 - 0.5;
}

DenseMatrix named(const std::string& name, std::int64_t rows, std::int64_t columns) {
  DenseMatrix m(rows, columns);
  for (std::size_t i = 0; i < m.values.size(); ++i) m.values[i] = hash_value(name, i);
  return m;
}

/// Within half a unit of the ninth digit behind the point.
bool same(double a, double b) { return std::abs(a - b) < 2e-9; }

/// The layer of the specification: d_out 3, d_in 4, r 1.
SharedCore golden_layer() {
  SharedCore map;
  map.core = named("core", 3, 4);
  map.experts.push_back({named("Ui", 4, 1), named("Vi", 4, 1), named("Uo", 3, 1), named("Vo", 3, 1), {}, {}});
  return map;
}

/// W_e = core + e_e / 2.
std::vector<DenseMatrix> golden_experts(bool transposed = false) {
  std::vector<DenseMatrix> out;
  for (int e = 0; e < 3; ++e) {
    DenseMatrix w = named("core", 3, 4);
    add_scaled(w, 0.5, named("e" + std::to_string(e), 3, 4));
    out.push_back(transposed ? w.transposed() : w);
  }
  return out;
}

CompressSettings exact_settings(CoreForm form, std::int64_t rank, std::int64_t rounds) {
  return {.form = form, .rank = rank, .rounds = rounds, .tolerance = 0, .core_steps = 200, .ridge = 0, .soft = 0};
}

}  // namespace

TEST_CASE("singular values, Cholesky factors and triangular solutions give back their matrices", "[model][compress]") {
  for (const auto& [rows, columns] : {std::pair<int, int>{7, 4}, {4, 7}, {5, 5}, {6, 1}, {1, 1}}) {
    CAPTURE(rows, columns);
    const DenseMatrix a = random_matrix(rows, columns, 3);
    const ThinSvd svd = thin_svd(a);
    DenseMatrix scaled = svd.u;
    for (std::int64_t i = 0; i < scaled.rows; ++i)
      for (std::int64_t j = 0; j < scaled.columns; ++j) scaled(i, j) *= svd.s[static_cast<std::size_t>(j)];
    CHECK(largest_difference(multiply_by_transposed(scaled, svd.v), a) < 1e-12);
    CHECK(std::is_sorted(svd.s.rbegin(), svd.s.rend()));
    const auto k = static_cast<std::int64_t>(svd.s.size());
    CHECK(largest_difference(multiply_transposed(svd.u, svd.u), DenseMatrix::identity(k)) < 1e-12);
    CHECK(largest_difference(multiply_transposed(svd.v, svd.v), DenseMatrix::identity(k)) < 1e-12);
  }
  const DenseMatrix half = random_matrix(5, 9, 4), m = multiply_by_transposed(half, half);
  const auto s = cholesky(m);
  REQUIRE(s.has_value());
  CHECK(largest_difference(multiply_by_transposed(*s, *s), m) < 1e-12);
  const DenseMatrix b = random_matrix(5, 3, 5);
  CHECK(largest_difference(multiply(*s, solve_lower(*s, b)), b) < 1e-12);
  CHECK(largest_difference(multiply(s->transposed(), solve_lower_transposed(*s, b)), b) < 1e-12);
  CHECK_FALSE(cholesky(DenseMatrix(3, 3)).has_value());
  CHECK_THROWS_WITH(multiply(DenseMatrix(2, 3), DenseMatrix(2, 3)), contains("a is [2, 3], b is [2, 3]: 3 != 2"));
}

TEST_CASE("the best assignment is the best of all permutations", "[model][compress]") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const DenseMatrix gain = random_matrix(6, 6, seed);
    std::vector<std::int64_t> order{0, 1, 2, 3, 4, 5};
    double best = -1e9;
    do {
      double sum = 0;
      for (std::int64_t i = 0; i < 6; ++i) sum += gain(i, order[static_cast<std::size_t>(i)]);
      best = std::max(best, sum);
    } while (std::next_permutation(order.begin(), order.end()));
    const auto found = best_assignment(gain);
    double sum = 0;
    for (std::int64_t i = 0; i < 6; ++i) sum += gain(i, found[static_cast<std::size_t>(i)]);
    CHECK(sum == Approx(best));
  }
}

TEST_CASE("the wrapped layer computes the specification's numbers, forward and backward", "[model][compress]") {
  const SharedCore map = golden_layer();
  const DenseMatrix x = named("x", 4, 1), y = map.apply(0, x);
  CHECK((same(y(0, 0), -.344014819) && same(y(1, 0), -.233035759) && same(y(2, 0), .066013162)));
  const DenseMatrix w = map.weight(0);
  CHECK((same(w(0, 0), .307961441) && same(w(0, 1), .097915144) && same(w(0, 2), -.310258062) &&
         same(w(0, 3), .391880102)));
  CHECK(largest_difference(multiply(w, x), y) < 1e-15);
  DenseMatrix g(3, 1);
  g.values = {1, 1, 1};
  const SharedCoreGradient d = gradient(map, 0, x, g);
  for (int i = 0; i < 3; ++i) CHECK(same(d.part.output_u(i, 0), .029395124));
  CHECK(same(d.part.output_v(0, 0), -.112295174));
  CHECK(same(d.part.input_u(0, 0), .008425960));
  CHECK(same(d.part.input_v(0, 0), -.074402364));
  CHECK(same(d.core(0, 0), -.314784767));
  CHECK((same(d.x(0, 0), .213013775) && same(d.x(1, 0), .170022921) && same(d.x(2, 0), -.557050626) &&
         same(d.x(3, 0), .686342180)));
  CHECK(map.parameters() == shared_core_parameters(1, 3, 4, 1));
}

TEST_CASE("gradients of both forms are those of finite differences", "[model][compress]") {
  for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
    SharedCore map;
    map.form = form;
    map.core = random_matrix(3, 5, 1);
    map.experts.push_back(empty_part(form, 3, 5, 2));
    ExpertPart& p = map.experts[0];
    std::uint64_t seed = 10;
    for (DenseMatrix* m : {&p.input_u, &p.input_v, &p.output_u, &p.output_v, &p.a, &p.b})
      *m = random_matrix(m->rows, m->columns, seed++, 0.5);
    DenseMatrix x = random_matrix(5, 2, 30);
    const DenseMatrix g = random_matrix(3, 2, 31);
    const SharedCoreGradient d = gradient(map, 0, x, g);
    const auto check = [&](DenseMatrix& m, const DenseMatrix& expected) {
      REQUIRE(m.values.size() == expected.values.size());
      for (std::size_t i = 0; i < m.values.size(); ++i) {
        const double before = m.values[i], h = 1e-5;
        m.values[i] = before + h;
        const double up = inner_product(g, map.apply(0, x));
        m.values[i] = before - h;
        const double down = inner_product(g, map.apply(0, x));
        m.values[i] = before;
        CHECK(std::abs((up - down) / (2 * h) - expected.values[i]) < 1e-8);
      }
    };
    check(map.core, d.core);
    check(x, d.x);
    check(p.input_u, d.part.input_u);
    check(p.input_v, d.part.input_v);
    check(p.output_u, d.part.output_u);
    check(p.output_v, d.part.output_v);
    check(p.a, d.part.a);
    check(p.b, d.part.b);
  }
}

TEST_CASE("the search computes the specification's objectives step by step", "[model][compress]") {
  const std::vector<double> f(3, 1.0);
  CompressReport report;
  const SharedCore map = compress_experts(golden_experts(), f, {}, exact_settings(CoreForm::wrappers, 1, 2), &report);
  CHECK(same(report.plain, 3.361152303));
  REQUIRE(report.steps.size() == 9);
  const std::pair<const char*, double> expected[] = {{"mean", .468585297}, {"right", .111431113}, {"left", .046534635},
                                                     {"core", .035542088}, {"right", .030207847}, {"left", .027475924},
                                                     {"core", .022570228}};
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    INFO(i << ": " << report.steps[i].name << " " << report.steps[i].objective);
    CHECK(report.steps[i].name == expected[i].first);
    CHECK(same(report.steps[i].objective, expected[i].second));
  }
  CHECK(compression_error(golden_experts(), f, {}, map) == Approx(report.objective).epsilon(1e-10));

  // Transposed, the left side is the smaller one and comes first.
  compress_experts(golden_experts(true), f, {}, exact_settings(CoreForm::wrappers, 1, 1), &report);
  CHECK(report.steps[1].name == "left");
  CHECK(same(report.steps[1].objective, .111431113));

  compress_experts(golden_experts(), f, {}, exact_settings(CoreForm::residual, 2, 1), &report);
  REQUIRE(report.steps.size() == 4);  // mean, fit, core, fit
  CHECK(same(report.steps[1].objective, .022295026));
  CHECK(same(report.steps[3].objective, .014072424));
}

TEST_CASE("second moments of the inputs weigh the error, and the factors come back from the whitened ones",
          "[model][compress]") {
  DenseMatrix moments(4, 4);
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) moments(i, j) = i == j ? 2 : 1;
  const std::vector<double> f(3, 1.0);
  for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
    CompressReport report;
    const SharedCore map = compress_experts(golden_experts(), f, moments, exact_settings(form, 1, 1), &report);
    CHECK(same(report.steps[0].objective, 1.045887881));
    if (form == CoreForm::wrappers) CHECK(same(report.steps[1].objective, .154902855));
    CHECK(compression_error(golden_experts(), f, moments, map, 0) == Approx(report.objective).epsilon(1e-10));
  }
}

TEST_CASE("laws of the search: equal experts, low-rank differences, an objective that never rises",
          "[model][compress]") {
  const std::vector<double> f{0.5, 2, 1, 1};
  const std::vector<DenseMatrix> equal(4, random_matrix(6, 8, 1));
  CompressReport report;
  compress_experts(equal, f, {}, {.rank = 2}, &report);
  CHECK(report.objective < 1e-24);

  // W_e = C + rank 2, with a core of full rank: the first half-step reaches it. The mean must be C.
  std::vector<DenseMatrix> low;
  const DenseMatrix core = random_matrix(6, 8, 2);
  for (int e = 0; e < 4; ++e) {
    const auto seed = static_cast<std::uint64_t>(10 + e / 2);
    DenseMatrix w = core;
    add_scaled(w, e % 2 == 0 ? 1 : -1,
               multiply_by_transposed(random_matrix(6, 2, seed), random_matrix(8, 2, 20 + seed)));
    low.push_back(std::move(w));
  }
  compress_experts(low, std::vector<double>(4, 1.0), {}, exact_settings(CoreForm::wrappers, 2, 1), &report);
  CHECK(report.steps[1].objective < 1e-20 * report.plain);

  const auto experts = random_experts(6, 12, 20, 0.3);
  const std::vector<double> g{1, 2, 0.1, 3, 1, 0};
  const DenseMatrix half = random_matrix(20, 40, 50), moments = multiply_by_transposed(half, half);
  for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual})
    for (const bool weighted : {false, true}) {
      compress_experts(experts, g, weighted ? moments : DenseMatrix(), {.form = form, .rank = 3, .adam_steps = 20},
                       &report);
      check_never_rises(report);
      CHECK(report.relative() < 1);
    }
}

TEST_CASE("at equal size least squares beat Adam from random factors, and a residual beats wrappers",
          "[model][compress]") {
  auto experts = random_experts(16, 24, 64, 0.3);
  for (DenseMatrix& w : experts)
    for (double& v : w.values) v *= 0.03;  // Adam's published rate of 1e-3 is for weights of this size
  const std::vector<double> f(16, 1.0);
  const auto relative = [&](CompressSettings settings) {
    CompressReport report;
    compress_experts(experts, f, {}, settings, &report);
    return report.relative();
  };
  const double adam = relative({.init = CoreInit::adam, .rank = 2, .adam_steps = 400}), als = relative({.rank = 2}),
               refined = relative({.rank = 2, .adam_steps = 100}),
               residual = relative({.form = CoreForm::residual, .rank = 4});
  CAPTURE(adam, als, refined, residual);
  // The specification's figures for such experts: Adam .4734, least squares .4493, refined .4464, residual .4108.
  CHECK(als < adam);
  CHECK(refined < als);
  CHECK(residual < refined);
  CHECK(als == Approx(0.4493).margin(0.02));
  CHECK(residual == Approx(0.4108).margin(0.02));
}

TEST_CASE("aligned experts compute what they did, and lie nearer together", "[model][compress]") {
  // Every expert is the first one, its neurons in another order, some of them with two signs, and a little noise.
  std::vector<GatedExpert> experts;
  const GatedExpert first{random_matrix(5, 7, 1), random_matrix(5, 7, 2), random_matrix(7, 5, 3)};
  for (std::uint64_t e = 0; e < 4; ++e) {
    ExpertOrder order = detail::unmoved(5);
    std::vector<std::int64_t>& places = order.places;
    for (std::uint64_t k = 0; k < e; ++k) std::next_permutation(places.begin(), places.end());
    if (e > 0) std::rotate(places.begin(), places.begin() + static_cast<int>(e), places.end()), order.flips[e] = 1;
    experts.push_back(detail::permuted(first, order));
    add_scaled(experts.back().gate, 0.01, random_matrix(5, 7, 40 + e));
    add_scaled(experts.back().up, 0.01, random_matrix(5, 7, 50 + e));
    add_scaled(experts.back().down, 0.01, random_matrix(7, 5, 60 + e));
  }
  const DenseMatrix x = random_matrix(7, 3, 9);
  const auto output = [&x](const GatedExpert& expert) {
    DenseMatrix h = multiply(expert.gate, x);
    const DenseMatrix up = multiply(expert.up, x);
    for (std::size_t i = 0; i < h.values.size(); ++i) h.values[i] *= up.values[i] / (1 + std::exp(-h.values[i]));
    return multiply(expert.down, h);
  };
  std::vector<DenseMatrix> before;
  for (const GatedExpert& e : experts) before.push_back(output(e));
  const std::vector<GatedExpert> given = experts;
  const AlignReport report = align_experts(experts, {1, 1, 1, 1});
  CHECK(report.aligned == 3);
  CHECK(report.after < 0.01 * report.before);
  for (std::size_t e = 0; e < 4; ++e) CHECK(largest_difference(output(experts[e]), before[e]) < 1e-12);
  for (std::size_t e = 0; e < 4; ++e) {
    const GatedExpert moved = detail::permuted(given[e], report.orders[e]);
    CHECK(largest_difference(moved.up, experts[e].up) == 0);
    CHECK(largest_difference(moved.down, experts[e].down) == 0);
  }
  const AlignReport again = align_experts(experts, {1, 1, 1, 1});
  CHECK(again.aligned == 0);
  CHECK(again.after == again.before);
}

TEST_CASE("ranks follow from a share of the parameters", "[model][compress]") {
  // Qwen3-30B-A3B's experts: r 64 keeps .2370 of them.
  CHECK(rank_for_share(0.2369, 128, 768, 2048) == 63);
  CHECK(rank_for_share(0.2370, 128, 768, 2048) == 64);
  CHECK(static_cast<double>(shared_core_parameters(128, 768, 2048, 64)) / (128.0 * 768 * 2048) ==
        Approx(0.2370).margin(5e-5));
  CHECK_THROWS_WITH(rank_for_share(0.007, 128, 768, 2048),
                    contains("a share of 0.007 of 128 experts [768, 2048] leaves no rank"));
}

TEST_CASE("what cannot be compressed is refused with the numbers", "[model][compress]") {
  const std::vector<DenseMatrix> experts(2, random_matrix(3, 4, 1));
  const std::vector<double> f{1, 1};
  const auto refused = [&](const CompressSettings& s) { return refusal([&] { compress_experts(experts, f, {}, s); }); };
  CHECK_THAT(refused({.rank = 4}), contains("rank is 4; experts [3, 4] allow 1 to 3"));
  CHECK_THAT(refused({.rank = 0}), contains("rank is 0; experts [3, 4] allow 1 to 3"));
  CHECK_THAT(refused({.rank = 1, .rounds = 0}), contains("rounds is 0"));
  CHECK_THAT(refused({.init = CoreInit::adam, .rank = 1}), contains("adam_steps is 0; it must be above 0"));
  CHECK_THAT(refused({.rank = 1, .tolerance = 1}), contains("tolerance is 1"));
  CHECK_THAT(refused({.rank = 1, .whole_below = -1}), contains("whole_below is -1; it must be 0 or above"));
  CHECK_THAT(refused({.rank = 1, .gemm = nullptr}), contains("gemm is null"));
  const auto given = [&](std::vector<DenseMatrix> w, std::vector<double> weights, const DenseMatrix& m = {}) {
    return refusal([&] { compress_experts(w, weights, m, {.rank = 1}); });
  };
  CHECK_THAT(given({}, {}), contains("0 experts and 0 weights"));
  CHECK_THAT(given(experts, {1}), contains("2 experts and 1 weights"));
  CHECK_THAT(given(experts, {1, -1}), contains("the weight of expert 1 is -1"));
  CHECK_THAT(given(experts, {0, 0}), contains("the weights of all 2 experts are 0"));
  CHECK_THAT(given({experts[0], random_matrix(3, 5, 1)}, f), contains("expert 1 is [3, 5], expert 0 [3, 4]"));
  auto broken = experts;
  broken[1](0, 0) = std::nan("");
  CHECK_THAT(given(broken, f), contains("expert 1 holds NaN or an infinity"));
  CHECK_THAT(given(experts, f, DenseMatrix(3, 3)),
             contains("the second moments are [3, 3], the experts read 4 inputs"));
  CHECK_THAT(given(experts, f, DenseMatrix(4, 4)), contains("are not positive definite"));
}
