// SPDX-License-Identifier: Apache-2.0
// The search for leading directions alone, which compress_experts makes for large matrices, against whole
// decompositions, and the products, factors and eigenvalues that it is made of.
#include <cmath>

#include "compress_support.hpp"
#include "kdlib/backend/cpu.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using namespace kdlib_tests;

TEST_CASE("blocks of a backend's products give the factors and solutions of plain loops", "[model][compress]") {
  const DenseGemm gemm = &Kernels<Cpu, double>::gemm;
  const DenseMatrix half = random_matrix(150, 190, 4), m = gram(half, gemm), b = random_matrix(150, 7, 5);
  CHECK(largest_difference(m, multiply_by_transposed(half, half)) < 1e-11);
  CHECK(largest_difference(m, m.transposed()) == 0);
  const auto s = cholesky(m, gemm);
  REQUIRE(s.has_value());
  CHECK(largest_difference(*s, *cholesky(m)) < 1e-11);
  CHECK(largest_difference(multiply_by_transposed(*s, *s), m) < 1e-11);
  CHECK(largest_difference(multiply(*s, solve_lower(*s, b, gemm)), b) < 1e-11);
  CHECK(largest_difference(multiply(s->transposed(), solve_lower_transposed(*s, b, gemm)), b) < 1e-11);
  const DenseMatrix wide = random_matrix(150, 37, 10);  // columns are solved sixteen at a time
  CHECK(largest_difference(multiply(*s, solve_lower(*s, wide, gemm)), wide) < 1e-11);
  CHECK(largest_difference(solve_lower(*s, m, gemm), s->transposed()) < 1e-11);
  CHECK(largest_difference(multiply(s->transposed(), solve_lower_transposed(*s, wide, gemm)), wide) < 1e-11);
  CHECK_FALSE(cholesky(gram(random_matrix(150, 60, 6), gemm), gemm).has_value());
  DenseMatrix c = random_matrix(7, 150, 9);
  const DenseMatrix before = c;
  add_product(c, 2, b.transposed(), m, true, gemm);
  add_product(c, -2, b.transposed(), m, false);
  CHECK(largest_difference(c, before) < 1e-10);
}

TEST_CASE("leading directions are those of the largest singular values", "[model][compress]") {
  DenseMatrix a = random_matrix(90, 120, 7);
  for (std::int64_t i = 0; i < a.rows; ++i)  // values that fall
    for (std::int64_t j = 0; j < a.columns; ++j) a(i, j) *= std::pow(0.9, static_cast<double>(i));
  const ThinSvd svd = thin_svd(a);
  const LeadingDirections found = leading_directions(gram(a), 5, DenseMatrix(13, 90));
  REQUIRE(found.values.size() == 13);
  CHECK(largest_difference(gram(found.vectors), DenseMatrix::identity(13)) < 1e-12);
  double best = 0, sum = 0;
  for (std::size_t i = 0; i < 5; ++i) best += svd.s[i] * svd.s[i], sum += found.values[i];
  CHECK(sum == Approx(best).epsilon(1e-6));
  const double largest = largest_eigenvalue(gram(a));
  CHECK((largest > 0.8 * svd.s[0] * svd.s[0] && largest < (1 + 1e-12) * svd.s[0] * svd.s[0]));
  // Fewer directions than are asked for, and none.
  const DenseMatrix low = multiply(random_matrix(90, 3, 1), random_matrix(3, 120, 2));
  const LeadingDirections three = leading_directions(gram(low), 5, {});
  CHECK(three.values[2] > 1);
  CHECK(std::abs(three.values[3]) < 1e-9 * three.values[0]);
  CHECK(leading_directions(DenseMatrix(70, 70), 2, {}).values[0] == 0);
  CHECK_THROWS_WITH(leading_directions(gram(low), 91, {}), contains("count is 91; a matrix [90, 90] has 1 to 90"));
}

TEST_CASE("a search for leading directions ends where one with whole decompositions does", "[model][compress]") {
  const std::vector<double> f{1, 2, 0.1, 3, 1, 0};
  for (const bool tall : {false, true})
    for (const bool weighted : {false, true})
      for (const CoreForm form : {CoreForm::wrappers, CoreForm::residual}) {
        CAPTURE(tall, weighted, static_cast<int>(form));
        const std::int64_t out = tall ? 56 : 40, in = tall ? 40 : 56;
        const auto experts = random_experts(6, out, in, 0.3);
        const DenseMatrix half = random_matrix(in, 2 * in, 50), moments = weighted ? gram(half) : DenseMatrix();
        CompressSettings s{.form = form, .rank = 4, .rounds = 4, .tolerance = 0};
        CompressReport whole, leading;
        compress_experts(experts, f, moments, s, &whole);
        s.whole_below = 0;
        s.gemm = &Kernels<Cpu, double>::gemm;
        const SharedCore map = compress_experts(experts, f, moments, s, &leading);
        REQUIRE(leading.steps.size() == whole.steps.size());
        for (std::size_t i = 0; i < whole.steps.size(); ++i) {
          CHECK(leading.steps[i].name == whole.steps[i].name);
          CHECK(leading.steps[i].objective == Approx(whole.steps[i].objective).epsilon(1e-3));
        }
        check_never_rises(leading);
        CHECK(compression_error(experts, f, moments, map) == Approx(leading.objective).epsilon(1e-9));
      }
}

TEST_CASE("laws of the search for leading directions", "[model][compress]") {
  CompressReport report;
  CompressSettings s{.rank = 2, .whole_below = 0};
  const std::vector<double> f(4, 1.0);
  compress_experts(std::vector<DenseMatrix>(4, random_matrix(30, 40, 1)), f, {}, s, &report);
  CHECK(report.relative() < 1e-14);
  compress_experts(std::vector<DenseMatrix>(3, DenseMatrix(30, 40)), {1, 1, 1}, {}, s, &report);  // nothing at all
  CHECK(report.objective == 0);
  // Differences of rank 2 around a core of full rank, and around one that lacks rows.
  for (const bool lacking : {false, true}) {
    DenseMatrix core = random_matrix(30, 40, 2);
    for (std::int64_t j = 0; lacking && j < 40; ++j) core(3, j) = core(17, j) = 0;
    std::vector<DenseMatrix> low;
    for (std::uint64_t e = 0; e < 4; ++e) {
      DenseMatrix u = random_matrix(30, 2, 10 + e / 2);
      for (std::int64_t j = 0; lacking && j < 2; ++j) u(3, j) = u(17, j) = 0;
      low.push_back(core);
      add_product(low.back(), e % 2 == 0 ? 1 : -1, u, random_matrix(40, 2, 30 + e / 2), true);
    }
    s.soft = 1e-12;
    compress_experts(low, f, {}, s, &report);
    CHECK(report.relative() < 1e-9);
    check_never_rises(report);
  }
}
