// SPDX-License-Identifier: Apache-2.0
// How products are given to a column-major library: shapes, the cache of algorithms and what is refused.
#include "src/cuda/products.hpp"

#include <cstring>
#include <vector>

#include "support/catch.hpp"

using namespace kdlib;
using detail::column_major;
using detail::ColumnMajorProduct;
using detail::ProductKey;

namespace {

/// A library that works at once on doubles of the host, and counts.
struct HostLibrary {
  struct Program {
    ColumnMajorProduct product;
  };
  bool is_capturing = false;
  int chosen = 0, runs = 0;

  bool capturing() const { return is_capturing; }
  Program choose(const ProductKey& key) {
    ++chosen;
    return {column_major(key)};
  }
  void run(const Program& program, const void* alpha, const void* a, const void* b, const void* beta, void* c) {
    ++runs;
    const ColumnMajorProduct& p = program.product;
    const auto at = [](const void* x, const ColumnMajorProduct::Matrix& m, bool transposed, std::int64_t row,
                       std::int64_t column) {
      const std::int64_t r = transposed ? column : row, k = transposed ? row : column;
      REQUIRE((r < m.rows && k < m.columns && m.rows <= m.ld));
      return static_cast<const double*>(x)[r + k * m.ld];
    };
    const std::int64_t terms = p.transpose_first ? p.first.rows : p.first.columns;
    for (std::int64_t row = 0; row < p.result.rows; ++row)
      for (std::int64_t column = 0; column < p.result.columns; ++column) {
        double sum = 0;
        for (std::int64_t t = 0; t < terms; ++t)
          sum += at(b, p.first, p.transpose_first, row, t) * at(a, p.second, p.transpose_second, t, column);
        double& out = static_cast<double*>(c)[row + column * p.result.ld];
        out = *static_cast<const double*>(alpha) * sum + *static_cast<const double*>(beta) * out;
      }
  }
  void clear(void* c, const ProductKey& key) {
    for (std::int64_t r = 0; r < key.m; ++r)
      for (std::int64_t k = 0; k < key.n; ++k) static_cast<double*>(c)[r * key.ldc + k] = 0;
  }
};
using Products = detail::Products<HostLibrary>;

alignas(16) double numbers[64] = {};
ProductKey key_of(std::int64_t m) { return {false, false, m, 2, 2, 2, 2, 2, DType::f32, DType::f32, 16, 16, 16}; }

}  // namespace

TEST_CASE("a row-major product is a column-major one with its factors changed over", "[cuda]") {
  Products products;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const std::int64_t m = 3, n = 4, k = 5, lda = (ta ? m : k) + 2, ldb = (tb ? k : n) + 1, ldc = n + 3;
      CAPTURE(ta, tb);
      std::vector<double> a(static_cast<std::size_t>((ta ? k : m) * lda)),
          b(static_cast<std::size_t>((tb ? n : k) * ldb)), c(static_cast<std::size_t>(m * ldc), 7);
      for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<double>(i % 7) - 3;
      for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<double>(i % 5) - 1;
      products.multiply(ta, tb, m, n, k, 2.0, a.data(), lda, b.data(), ldb, 3.0, c.data(), ldc);
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < ldc; ++j) {
          double sum = 0;
          for (std::int64_t t = 0; t < k && j < n; ++t)
            sum += a[static_cast<std::size_t>(ta ? t * lda + i : i * lda + t)] *
                   b[static_cast<std::size_t>(tb ? j * ldb + t : t * ldb + j)];
          CHECK(c[static_cast<std::size_t>(i * ldc + j)] == (j < n ? 2 * sum + 21 : 7));  // padding is kept
        }
    }
}

TEST_CASE("an algorithm is chosen once for sizes, leading dimensions, types and alignments", "[cuda]") {
  Products products;
  const auto multiply = [&](std::int64_t n, std::int64_t ldb, const double* a) {
    products.multiply(false, false, 2, n, 2, 1.0, a, 2, numbers + 16, ldb, 0.0, numbers + 32, 4);
  };
  for (int i = 0; i < 3; ++i) multiply(2, 2, numbers);
  CHECK(products.library().chosen == 1);
  multiply(2, 2, numbers + 2);  // 16 bytes on: as well aligned
  CHECK(products.library().chosen == 1);
  multiply(3, 3, numbers), multiply(2, 3, numbers), multiply(2, 2, numbers + 1);
  CHECK(products.library().chosen == 4);
  CHECK(products.library().runs == 7);
  const ProductKey key = key_of(2);
  for (int field = 0; field < 13; ++field) {
    ProductKey other = key;
    std::int64_t* const sizes[] = {&other.m, &other.n, &other.k, &other.lda, &other.ldb, &other.ldc};
    if (field < 6) ++*sizes[field];
    if (field == 6) other.transpose_a = true;
    if (field == 7) other.transpose_b = true;
    if (field == 8) other.factors = DType::bf16;
    if (field == 9) other.result = DType::bf16;
    if (field == 10) other.alignment_a = 8;
    if (field == 11) other.alignment_b = 8;
    if (field == 12) other.alignment_c = 8;
    CAPTURE(field);
    CHECK(other != key);
  }
}

TEST_CASE("the cache of algorithms forgets what was asked for longest ago", "[cuda]") {
  detail::RecentCache<ProductKey, int> cache(3);
  for (int i = 0; i < 3; ++i) cache.add(key_of(i), i);
  REQUIRE(cache.find(key_of(0)) != nullptr);
  cache.add(key_of(3), 3);
  CHECK(cache.size() == 3);
  CHECK(cache.find(key_of(1)) == nullptr);
  for (const int i : {0, 2, 3}) {
    REQUIRE(cache.find(key_of(i)) != nullptr);
    CHECK(*cache.find(key_of(i)) == i);
  }
}

TEST_CASE("a product that never ran is refused while a graph is captured", "[cuda]") {
  Products products;
  const auto multiply = [&](std::int64_t m) {
    products.multiply(false, true, m, 2, 2, 1.0, numbers, 2, numbers + 16, 2, 0.0, numbers + 32, 2);
  };
  multiply(2);
  products.library().is_capturing = true;
  CHECK_NOTHROW(multiply(2));
  CHECK_THROWS_WITH(multiply(3), contains("3 x 2 x 2 (float64 to float64, a, b transposed") &&
                                     contains("is captured that never ran; run the work once before"));
  products.library().is_capturing = false;
  CHECK_NOTHROW(multiply(3));
}

TEST_CASE("addresses inside an element, and a product of no terms with a factor, are refused", "[cuda]") {
  Products products;
  const auto* inside = reinterpret_cast<const double*>(reinterpret_cast<const char*>(numbers) + 4);
  CHECK_THROWS_WITH(products.multiply(false, false, 1, 1, 1, 1.0, inside, 1, numbers, 1, 0.0, numbers + 32, 1),
                    contains("the address of a is a multiple of 4 bytes; its elements of 8 bytes need more"));
  double c[6] = {1, 2, 3, 4, 5, 6};
  const auto nothing = [&](double beta) {
    products.multiply(false, false, 2, 2, 0, 1.0, numbers, 0, numbers, 2, beta, &c[0], 3);
  };
  nothing(1);
  CHECK((c[0] == 1 && c[5] == 6));
  CHECK_THROWS_WITH(nothing(0.5), contains("a product of no terms takes 0 or 1"));
  nothing(0);
  CHECK((c[0] == 0 && c[1] == 0 && c[2] == 3 && c[3] == 0 && c[4] == 0 && c[5] == 6));
  CHECK(products.library().chosen == 0);
}
