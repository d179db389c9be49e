// SPDX-License-Identifier: Apache-2.0
// Four-bit weights: codes and values against torchao, packing, products, a model with packed maps.
#include "kdlib/quant/int4_group.hpp"

#include <cmath>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/core/rng.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

std::vector<int> unpack(const std::vector<std::uint8_t>& codes) {
  std::vector<int> q;
  for (const std::uint8_t b : codes)
    for (const int nibble : {b & 15, b >> 4}) q.push_back(nibble < 8 ? nibble : nibble - 16);
  return q;
}

std::vector<float> random_weights(std::int64_t n, std::uint32_t row) {
  std::vector<float> w(static_cast<std::size_t>(n));
  const Rng rng(5, RngPurpose::test, 0, row);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(rng.uniform(static_cast<std::uint32_t>(i)) * 2 - 1);
  return w;
}

template <class T>
std::vector<T> decode(const Int4Data& data, std::int64_t rows, std::int64_t columns, std::int64_t group) {
  const Int4Matrix<T, Cpu> m(data, rows, columns, group);
  std::vector<T> out(static_cast<std::size_t>(rows * columns));
  m.decode(0, rows, out.data());
  return out;
}

std::vector<CpuLevel> levels() {
  std::vector<CpuLevel> list;
  for (const CpuLevel l : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512})
    if (l <= detail::best_cpu_level()) list.push_back(l);
  return list;
}

}  // namespace

TEST_CASE("int4 codes of the worked example", "[quant][int4]") {
  const std::vector<float> w = {-8, 7, 0.4f, -2.6f};  // affine, group 4: scale 1, zero 0, q = -8 7 0 -3, bytes 78 D0
  const Int4Data d = encode_int4(w.data(), 1, 4, 4, Int4Rule::affine);
  CHECK(d.scale == std::vector<float>{1});
  CHECK(d.zero == std::vector<float>{0});
  CHECK(d.codes == std::vector<std::uint8_t>{0x78, 0xD0});
  CHECK(decode<float>(d, 1, 4, 4) == std::vector<float>{-8, 7, 0, -3});
  const std::vector<float> constant(4, 0.5f);
  CHECK(decode<float>(encode_int4(constant.data(), 1, 4, 4, Int4Rule::affine), 1, 4, 4) == constant);
  const std::vector<float> zeros(4, 0.0f);
  CHECK(decode<float>(encode_int4(zeros.data(), 1, 4, 4, Int4Rule::symmetric), 1, 4, 4) == zeros);
}

TEST_CASE("int4 codes, scales and values equal torchao's, bit for bit", "[quant][int4]") {
  const auto path = shared_file("reference/quant/int4.safetensors");
  if (!path) KDLIB_SKIP("reference/quant/int4.safetensors is not here (set KDLIB_SHARED_DIR)");
  const SafetensorsFile file(*path);
  for (const CpuLevel level : levels()) {
    set_cpu_level(level);
    for (const int group : {32, 64, 128}) {
      CAPTURE(cpu_level_name(level), group);
      const auto w = read_as<float>(file.at("input.fp32"));
      const Shape shape = file.at("input.fp32").shape();
      const std::string name = concat("symmetric.fp32.", group);
      const Int4Data d = encode_int4(w.data(), shape[0], shape[1], group, Int4Rule::symmetric);
      const auto q = read_as<std::int32_t>(file.at(name + ".q"));
      CHECK(unpack(d.codes) == std::vector<int>(q.begin(), q.end()));
      CHECK(d.scale == read_as<float>(file.at(name + ".scale")));
      CHECK(decode<float>(d, shape[0], shape[1], group) == read_as<float>(file.at(name + ".out")));
      const auto wb = read_as<float>(file.at("input.bf16"));
      const Shape bshape = file.at("input.bf16").shape();
      const std::string plain = concat("plain.bf16.", group);
      const Int4Data a = encode_int4(wb.data(), bshape[0], bshape[1], group, Int4Rule::affine);
      const TensorInfo& bytes = file.at(plain + ".qdata");
      CHECK(std::equal(a.codes.begin(), a.codes.end(), reinterpret_cast<const std::uint8_t*>(bytes.data.data()),
                       reinterpret_cast<const std::uint8_t*>(bytes.data.data()) + bytes.data.size()));
      CHECK(decode<float>(a, bshape[0], bshape[1], group) == read_as<float>(file.at(plain + ".out_exact")));
    }
  }
  set_cpu_level(detail::best_cpu_level());
}

TEST_CASE("products with int4 weights equal products with the decoded ones", "[quant][int4]") {
  const std::int64_t n = 37, k = 96;
  const auto w = random_weights(n * k, 1);
  for (const CpuLevel level : levels())
    for (const Int4Rule rule : {Int4Rule::symmetric, Int4Rule::affine})
      for (const std::int64_t group : {2, 6, 32, 96}) {
        set_cpu_level(level);
        const Int4Data data = encode_int4(w.data(), n, k, group, rule);
        const Int4Matrix<float, Cpu> m(data, n, k, group);
        const auto dense = decode<float>(data, n, k, group);
        const auto wide = decode<double>(data, n, k, group);
        for (std::size_t i = 0; i < dense.size(); ++i) REQUIRE(static_cast<double>(dense[i]) == wide[i]);
        for (const std::int64_t rows : {1, 3, 8, 24}) {
          CAPTURE(cpu_level_name(level), int4_rule_name(rule), group, rows);
          const auto x = random_weights(rows * k, 2);
          std::vector<float> y(static_cast<std::size_t>(rows * n), 0.5f);
          m.multiply_few(rows, x.data(), 2.0f, y.data());
          std::vector<double> expected(y.size(), 1.0);
          for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < n; ++c)
              for (std::int64_t i = 0; i < k; ++i)
                expected[static_cast<std::size_t>(r * n + c)] +=
                    static_cast<double>(x[static_cast<std::size_t>(r * k + i)]) * static_cast<double>(dense[static_cast<std::size_t>(c * k + i)]);
          CHECK(max_difference(y.data(), expected.data(), y.size()) < Tolerance<float>::reduction);
        }
      }
  set_cpu_level(detail::best_cpu_level());
}

TEST_CASE("int4 refuses groups that do not fit and weights that are not finite", "[quant][int4]") {
  std::vector<float> w(12, 1.0f);
  CHECK_THROWS_WITH(encode_int4(w.data(), 1, 12, 8, Int4Rule::symmetric), contains("groups of 8 do not divide rows of 12"));
  CHECK_THROWS_AS(encode_int4(w.data(), 4, 3, 3, Int4Rule::symmetric), ConfigError);
  w[7] = NAN;
  CHECK_THROWS_AS(encode_int4(w.data(), 1, 12, 4, Int4Rule::affine), FormatError);
}
