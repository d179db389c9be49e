// SPDX-License-Identifier: Apache-2.0
// Integer codes of 3, 4 and 8 bits: codes, scales and values against torchao, packing, refusals.
#include <algorithm>
#include <cmath>

#include "coded_support.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

CodedData encode(const std::vector<float>& w, std::int64_t rows, PackedKind kind, std::int64_t group, Int4Rule rule) {
  return encode_weights(w.data(), rows, static_cast<std::int64_t>(w.size()) / rows,
                        {.kind = kind, .group_size = group, .rule = rule});
}

std::vector<int> codes_of(const SafetensorsFile& file, const std::string& name) {
  const auto q = read_as<std::int32_t>(file.at(name));
  return {q.begin(), q.end()};
}

}  // namespace

TEST_CASE("int4 codes of the worked example", "[quant]") {
  const std::vector<float> w = {-8, 7, 0.4f, -2.6f,
                                -8, 7, 0.4f, -2.6f};  // affine, group 4: scale 1, zero 0, q = -8 7 0 -3, bytes 78 D0
  const CodedData d = encode(w, 1, PackedKind::int4, 4, Int4Rule::affine);
  CHECK(d.scale == std::vector<float>{1, 1});
  CHECK(d.zero == std::vector<float>{0, 0});
  CHECK(d.codes == std::vector<std::uint8_t>{0x78, 0xD0, 0x78, 0xD0});
  CHECK(decoded<float>(d) == std::vector<float>{-8, 7, 0, -3, -8, 7, 0, -3});
  const std::vector<float> constant(4, 0.5f), zeros(4, 0.0f);
  CHECK(decoded<float>(encode(constant, 1, PackedKind::int4, 4, Int4Rule::affine)) == constant);
  CHECK(decoded<float>(encode(zeros, 1, PackedKind::int4, 4, Int4Rule::symmetric)) == zeros);
}

TEST_CASE("int3 codes of a group worked out by hand", "[quant]") {
  // amax 3.5, scale 1: 3.5 rounds to 4 and is clamped to 3, ties go to even: 0.5 -> 0, 1.5 -> 2, -2.5 -> -2, -3.5 -> -4
  const std::vector<float> w = {3.5f, 0.5f, 1.5f, -2.5f, -3.5f, 0.4f, -1, 3};
  const CodedData d = encode(w, 1, PackedKind::int3, 8, Int4Rule::symmetric);
  CHECK(d.scale == std::vector<float>{1});
  CHECK(signed_codes(d) == std::vector<int>{3, 0, 2, -2, -4, 0, -1, 3});
  // 3, 0, 2, 6, 4, 0, 7, 3 in three bits each from the lowest: 011 000 010 110 100 000 111 011 -> bits 0 to 23
  CHECK(d.codes == std::vector<std::uint8_t>{0x83, 0x4C, 0x7C});
  CHECK(decoded<float>(d) == std::vector<float>{3, 0, 2, -2, -4, 0, -1, 3});
}

TEST_CASE("int4 codes, scales and values equal torchao's, bit for bit", "[quant]") {
  const auto path = shared_file("reference/quant/int4.safetensors");
  if (!path) KDLIB_SKIP("reference/quant/int4.safetensors is not here (set KDLIB_SHARED_DIR)");
  const SafetensorsFile file(*path);
  const auto w = read_as<float>(file.at("input.fp32")), wb = read_as<float>(file.at("input.bf16"));
  const std::int64_t rows = file.at("input.fp32").shape()[0], rows_b = file.at("input.bf16").shape()[0];
  for_each_level([&](CpuLevel level) {
    for (const int group : {32, 64, 128}) {
      CAPTURE(cpu_level_name(level), group);
      const std::string symmetric = concat("symmetric.fp32.", group), asymmetric = concat("asymmetric.fp32.", group),
                        plain = concat("plain.bf16.", group);
      const CodedData s = encode(w, rows, PackedKind::int4, group, Int4Rule::symmetric);
      CHECK(signed_codes(s) == codes_of(file, symmetric + ".q"));
      CHECK(s.scale == read_as<float>(file.at(symmetric + ".scale")));
      CHECK(decoded<float>(s) == read_as<float>(file.at(symmetric + ".out")));
      const CodedData z = encode(w, rows, PackedKind::int4, group, Int4Rule::asymmetric);
      CHECK(signed_codes(z) == codes_of(file, asymmetric + ".q"));
      CHECK(z.scale == read_as<float>(file.at(asymmetric + ".scale")));
      CHECK(z.zero == read_as<float>(file.at(asymmetric + ".zero")));
      CHECK(decoded<float>(z) == read_as<float>(file.at(asymmetric + ".out")));
      const CodedData a = encode(wb, rows_b, PackedKind::int4, group, Int4Rule::affine);
      CHECK(a.codes == bytes_of(file.at(plain + ".qdata")));
      CHECK(decoded<float>(a) == read_as<float>(file.at(plain + ".out_exact")));
    }
  });
}

TEST_CASE("int3 and int8 codes and scales equal torchao's, bit for bit", "[quant]") {
  const SafetensorsFile file(reference_file("quant/intx.safetensors"));
  const auto w = read_as<float>(file.at("input"));
  const std::int64_t rows = file.at("input").shape()[0];
  for (const PackedKind kind : {PackedKind::int3, PackedKind::int8})
    for (const Int4Rule rule : {Int4Rule::symmetric, Int4Rule::asymmetric})
      for (const int group : {32, 64}) {
        const std::string name = concat(packed_kind_name(kind), ".", int4_rule_name(rule), ".", group);
        CAPTURE(name);
        const CodedData d = encode(w, rows, kind, group, rule);
        CHECK(signed_codes(d) == codes_of(file, name + ".q"));
        CHECK(d.scale == read_as<float>(file.at(name + ".scale")));
        CHECK(decoded<float>(d) == read_as<float>(file.at(name + ".out")));
      }
}

TEST_CASE("a row that groups do not divide ends with a short group", "[quant]") {
  const auto w = random_weights(3 * 172, 9);
  for (const PackedKind kind : {PackedKind::int3, PackedKind::int4, PackedKind::int8}) {
    const CodedData d = encode(w, 3, kind, 64, Int4Rule::symmetric);
    REQUIRE(d.scale.size() == 9);
    for (std::size_t r = 0; r < 3; ++r)
      for (const std::size_t g : {std::size_t{0}, std::size_t{2}}) {  // a group alone gives the same scale and values
        const std::size_t begin = r * 172 + g * 64, count = g == 2 ? 44 : 64;
        const std::vector<float> part(w.begin() + static_cast<std::ptrdiff_t>(begin),
                                      w.begin() + static_cast<std::ptrdiff_t>(begin + count));
        const CodedData alone = encode(part, 1, kind, static_cast<std::int64_t>(count), Int4Rule::symmetric);
        CHECK(d.scale[r * 3 + g] == alone.scale[0]);
        const auto all = decoded<float>(d), one = decoded<float>(alone);
        CHECK(std::equal(one.begin(), one.end(), all.begin() + static_cast<std::ptrdiff_t>(begin)));
      }
  }
}

TEST_CASE("settings that no format has and weights that are not finite are refused", "[quant]") {
  std::vector<float> w(128, 1.0f);
  const auto with = [&](const QuantizeSettings& s) { return encode_weights(w.data(), 2, 64, s); };
  CHECK_THROWS_WITH(with({.group_size = 0}), contains("groups of 0"));
  CHECK_THROWS_WITH(with({.kind = PackedKind::nf4, .group_size = 48}), contains("power of two"));
  CHECK_THROWS_WITH(with({.kind = PackedKind::mxfp4, .group_size = 64}), contains("blocks of 32"));
  CHECK_THROWS_WITH(with({.kind = PackedKind::nf4, .rule = Int4Rule::affine}),
                    contains("affine belongs to int3, int4 and int8"));
  CHECK_THROWS_WITH(with({.double_quantized = true}), contains("belongs to nf4 and fp4"));
  CHECK_THROWS_WITH(packed_kind("int5"), contains("\"int5\" is unknown"));
  w[70] = NAN;
  for (const PackedKind kind : {PackedKind::int4, PackedKind::nf4})
    CHECK_THROWS_WITH(with({.kind = kind}), contains("not finite, in the 64 from row 1, column 0"));
}
