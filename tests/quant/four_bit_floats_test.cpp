// SPDX-License-Identifier: Apache-2.0
// NF4, FP4 and double quantisation against bitsandbytes, MXFP4 against torchao.
#include "kdlib/quant/four_bit_floats.hpp"

#include <cmath>

#include "coded_support.hpp"
#include "kdlib/core/dtype.hpp"
#include "kdlib/io/json.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// Rounded to the type of the reference's weights.
float as_type(float x, std::string_view dtype) {
  if (dtype == "bf16") return static_cast<float>(bf16(x));
  if (dtype == "fp16") return static_cast<float>(f16(x));
  return x;
}

/// Codes as bitsandbytes stores them, the first of two in the high nibble, an odd one followed by the code of 0.
std::vector<std::uint8_t> high_first(const CodedData& d, std::uint8_t zero) {
  std::vector<std::uint8_t> codes = all_codes(d), out;
  if (codes.size() % 2 != 0) codes.push_back(zero);
  for (std::size_t i = 0; i < codes.size(); i += 2)
    out.push_back(static_cast<std::uint8_t>(codes[i] << 4 | codes[i + 1]));
  return out;
}

void check_nested(const SafetensorsFile& file, const std::string& key, const CodedData& d, const CodedData& plain) {
  const float offset = read_as<float>(file.at(key + ".offset"))[0];
  CHECK(std::fabs(d.nested_offset - offset) <= 1e-6f * std::fabs(offset));
  const auto codes = bytes_of(file.at(key + ".absmax"));
  const auto block = read_as<float>(file.at(key + ".absmax2"));
  REQUIRE(codes.size() == d.small_scale.size());
  REQUIRE(block.size() == d.nested_scale.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    if (codes[i] == d.small_scale[i]) continue;  // the library may take the neighbour within about 2e-5 of a midpoint
    const int low = std::min(codes[i], d.small_scale[i]), high = std::max(codes[i], d.small_scale[i]);
    REQUIRE(high == low + 1);
    const float middle =
        (dynamic_map()[static_cast<std::size_t>(low)] + dynamic_map()[static_cast<std::size_t>(high)]) / 2;
    CHECK(std::fabs((plain.scale[i] - offset) / block[i / 256] - middle) < 2e-5f);
  }
}

}  // namespace

TEST_CASE("NF4 and FP4 codes of the worked example", "[quant]") {
  const std::vector<float> w = {1, -0.5f, 0.25f, 0, 0.1f, -1, 0.7f, -0.3f};  // one short block, absmax 1
  const CodedData n = encode_weights(w.data(), 1, 8, {.kind = PackedKind::nf4}),
                  f = encode_weights(w.data(), 1, 8, {.kind = PackedKind::fp4});
  CHECK(high_first(n, 7) == std::vector<std::uint8_t>{0xF2, 0xA7, 0x80, 0xE4});
  CHECK(high_first(f, 0) == std::vector<std::uint8_t>{0x3D, 0x70, 0x6B, 0x2C});
}

TEST_CASE("the dynamic map has the values that its construction promises", "[quant]") {
  const auto& map = dynamic_map();
  CHECK(map[0] == -0.99296875f);
  CHECK(map[1] == -0.97890625f);
  CHECK(std::fabs(map[126] + 5.5e-07f) < 1e-13f);
  CHECK(map[127] == 0.0f);
  CHECK(std::fabs(map[128] - 5.5e-07f) < 1e-13f);
  CHECK(map[130] == 7.75e-06f);
  CHECK(map[254] == 0.99296875f);
  CHECK(map[255] == 1.0f);
}

TEST_CASE("NF4, FP4 and double quantisation equal bitsandbytes' codes, statistics and values", "[quant]") {
  const auto path = shared_file("reference/quant/bnb.safetensors"), info = shared_file("reference/quant/quant.json");
  if (!path || !info) KDLIB_SKIP("reference/quant/bnb.safetensors is not here (set KDLIB_SHARED_DIR)");
  const SafetensorsFile file(*path);
  CHECK(read_as<float>(file.at("code.nf4")) == std::vector<float>(nf4_levels().begin(), nf4_levels().end()));
  CHECK(read_as<float>(file.at("code.fp4")) == std::vector<float>(fp4_levels().begin(), fp4_levels().end()));
  CHECK(read_as<float>(file.at("code.dynamic")) == std::vector<float>(dynamic_map().begin(), dynamic_map().end()));
  const Json cases = Json::parse_file(*info);
  std::size_t checked = 0;
  for (std::size_t i = 0; i < cases.at("bnb").size(); ++i) {
    const Json one = cases.at("bnb")[i];
    const std::string key(one.at("case").as_string()), dtype(one.at("dtype").as_string());
    CAPTURE(key);
    const bool nested = one.at("nested").as_bool(), nf4 = one.at("kind").as_string() == "nf4";
    const auto w = read_as<float>(file.at(std::string(one.at("input").as_string())));
    const std::int64_t rows = one.at("shape")[0].as_int(), columns = one.at("shape")[1].as_int();
    QuantizeSettings settings{.kind = nf4 ? PackedKind::nf4 : PackedKind::fp4,
                              .group_size = one.at("blocksize").as_int()};
    CodedData plain = encode_weights(w.data(), rows, columns, settings);
    settings.double_quantized = nested;
    CodedData d = encode_weights(w.data(), rows, columns, settings);
    CHECK(high_first(d, nf4 ? 7 : 0) == bytes_of(file.at(key + ".packed")));
    if (nested) {
      check_nested(file, key, d, plain);
      d.small_scale = bytes_of(file.at(key + ".absmax"));  // values from the stored bytes
      d.nested_scale = read_as<float>(file.at(key + ".absmax2"));
      d.nested_offset = read_as<float>(file.at(key + ".offset"))[0];
    } else {
      CHECK(d.scale == read_as<float>(file.at(key + ".absmax")));
    }
    const auto expected = read_as<float>(file.at(key + ".out"));
    for_each_level([&](CpuLevel level) {
      CAPTURE(cpu_level_name(level));
      std::vector<float> values = decoded<float>(d);
      for (float& x : values) x = as_type(x, dtype);
      CHECK(values == expected);
    });
    ++checked;
  }
  CHECK(checked == cases.at("bnb").size());
  CHECK(checked > 30);
}

TEST_CASE("MXFP4 blocks of the worked example", "[quant]") {
  std::vector<float> w(32, 0.0f);
  const std::vector<float> start = {6, -3, 0.5f, 0.25f, 1.25f, 0.75f};
  std::copy(start.begin(), start.end(), w.begin());
  const CodedData d = encode_weights(w.data(), 1, 32, {.kind = PackedKind::mxfp4, .group_size = 32});
  CHECK(d.small_scale == std::vector<std::uint8_t>{127});
  CHECK(std::vector<std::uint8_t>(d.codes.begin(), d.codes.begin() + 4) ==
        std::vector<std::uint8_t>{0xD7, 0x01, 0x22, 0x00});
}

TEST_CASE("MXFP4 scales, codes and values equal torchao's by every rule, and transformers decodes alike", "[quant]") {
  const auto path = shared_file("reference/quant/mxfp4.safetensors");
  if (!path) KDLIB_SKIP("reference/quant/mxfp4.safetensors is not here (set KDLIB_SHARED_DIR)");
  const SafetensorsFile file(*path);
  const auto w = read_as<float>(file.at("encode.input"));
  const std::pair<const char*, MxScale> rules[] = {
      {"floor", MxScale::floor}, {"rceil", MxScale::rceil}, {"ceil", MxScale::ceil}, {"even", MxScale::even}};
  for (const auto& rule : rules) {
    const std::string key = concat("encode.", rule.first);
    CAPTURE(key);
    std::vector<std::uint8_t> scales, blocks;
    for (std::size_t begin = 0; begin < w.size(); begin += 32) {
      std::uint8_t codes[32];
      scales.push_back(encode_mxfp4_block(w.data() + begin, 32, rule.second, codes));
      for (std::size_t i = 0; i < 32; i += 2) blocks.push_back(static_cast<std::uint8_t>(codes[i] | codes[i + 1] << 4));
    }
    CHECK(scales == bytes_of(file.at(key + ".scales")));
    CHECK(blocks == bytes_of(file.at(key + ".blocks")));
  }
  const std::int64_t rows = file.at("encode.input").shape()[0];
  const CodedData d = encode_weights(w.data(), rows, static_cast<std::int64_t>(w.size()) / rows,
                                     {.kind = PackedKind::mxfp4, .group_size = 32});
  CHECK(d.codes == bytes_of(file.at("encode.floor.blocks")));
  CHECK(decoded<float>(d) == read_as<float>(file.at("encode.floor.decoded")));
  CodedData stored;  // every scale byte of the file, 0 and 252 among them
  stored.settings = {.kind = PackedKind::mxfp4, .group_size = 32};
  stored.codes = bytes_of(file.at("blocks"));
  stored.small_scale = bytes_of(file.at("scales"));
  stored.rows = 1;
  stored.columns = static_cast<std::int64_t>(stored.codes.size()) * 2;
  for_each_level([&](CpuLevel level) {
    CAPTURE(cpu_level_name(level));
    CHECK(decoded<float>(stored) == read_as<float>(file.at("decoded.fp32")));
  });
}
