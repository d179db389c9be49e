// SPDX-License-Identifier: Apache-2.0
// Products with coded weights against products with the decoded ones, for every format, instruction set and number of
// rows.
#include "kdlib/quant/coded_matrix.hpp"

#include <cmath>

#include "coded_support.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

std::vector<QuantizeSettings> formats() {
  std::vector<QuantizeSettings> list = {{.kind = PackedKind::mxfp4, .group_size = 32}};
  for (const PackedKind kind : {PackedKind::int3, PackedKind::int4, PackedKind::int8})
    for (const std::int64_t group : {2, 6, 32, 64, 96, 128, 256})
      for (const Int4Rule rule : {Int4Rule::symmetric, Int4Rule::affine, Int4Rule::asymmetric})
        list.push_back({.kind = kind, .group_size = group, .rule = rule});
  for (const PackedKind kind : {PackedKind::nf4, PackedKind::fp4})
    for (const std::int64_t group : {32, 64, 128})
      for (const bool nested : {false, true})
        list.push_back({.kind = kind, .group_size = group, .double_quantized = nested});
  return list;
}

void check_product(const CodedMatrix<float, Cpu>& m, const std::vector<float>& dense, std::int64_t rows) {
  const std::int64_t n = m.rows(), k = m.columns();
  const auto x = random_weights(rows * k, 2);
  std::vector<float> y(static_cast<std::size_t>(rows * n), 0.5f);
  m.multiply_few(rows, x.data(), 2.0f, y.data());
  std::vector<double> expected(y.size(), 1.0);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < n; ++c)
      for (std::int64_t i = 0; i < k; ++i)
        expected[static_cast<std::size_t>(r * n + c)] +=
            static_cast<double>(x[static_cast<std::size_t>(r * k + i)]) *
            static_cast<double>(dense[static_cast<std::size_t>(c * k + i)]);
  CHECK(max_difference(y.data(), expected.data(), y.size()) < Tolerance<float>::reduction);
}

}  // namespace

TEST_CASE("products with codes equal products with the decoded weights", "[quant]") {
  for (const std::int64_t k : {96, 172, 320}) {
    const std::int64_t n = 37;
    const auto w = random_weights(n * k, 1);
    for (const QuantizeSettings& s : formats()) {
      const CodedData data = encode_weights(w.data(), n, k, s);
      const CodedMatrix<float, Cpu> m(data);
      std::vector<float> first;
      for_each_level([&](CpuLevel level) {
        CAPTURE(cpu_level_name(level), describe(s), k);
        const auto dense = decoded<float>(data);
        const auto wide = decoded<double>(data);
        bool same = true;
        for (std::size_t i = 0; i < dense.size(); ++i) same = same && static_cast<double>(dense[i]) == wide[i];
        CHECK(same);
        if (first.empty()) first = dense;
        CHECK(first == dense);
        for (const std::int64_t rows : {1, 2, 3, 4, 7, 8, 24}) {
          CAPTURE(rows);
          check_product(m, dense, rows);
        }
      });
    }
  }
}

TEST_CASE("codes and scales come back from the device as they went, and others take their place", "[quant]") {
  const auto w = random_weights(5 * 172, 3), other = random_weights(5 * 172, 4);
  for (const QuantizeSettings& s : formats()) {
    const CodedData data = encode_weights(w.data(), 5, 172, s), next = encode_weights(other.data(), 5, 172, s);
    CodedMatrix<float, Cpu> m(data);
    CHECK(m.data().codes == data.codes);
    CHECK(m.data().scale == data.scale);
    CHECK(m.data().small_scale == data.small_scale);
    const auto before = decoded<float>(next);
    m.assign(next);
    CHECK(max_difference(m.decode_all().data(), before.data(), before.size()) == 0);
  }
  CodedMatrix<float, Cpu> m(encode_weights(w.data(), 5, 172, {}));
  CHECK_THROWS_AS(m.assign(encode_weights(w.data(), 5, 172, {.group_size = 32})), ShapeError);
}

TEST_CASE("packed storage has the size that its format promises", "[quant]") {
  const auto w = random_weights(8 * 256, 3);
  const auto bytes = [&](const QuantizeSettings& s) {
    return CodedMatrix<float, Cpu>(encode_weights(w.data(), 8, 256, s)).bytes();
  };
  CHECK(bytes({.kind = PackedKind::int4}) == 1024 + 4 * 32);
  CHECK(bytes({.kind = PackedKind::int4, .rule = Int4Rule::affine}) == 1024 + 8 * 32);
  CHECK(bytes({.kind = PackedKind::int3}) == 768 + 4 * 32);
  CHECK(bytes({.kind = PackedKind::int8}) == 2048 + 4 * 32);
  CHECK(bytes({.kind = PackedKind::mxfp4, .group_size = 32}) == 1024 + 64);
  CHECK(bytes({.kind = PackedKind::nf4, .double_quantized = true}) == 1024 + 32 + 4 + 4);
}
