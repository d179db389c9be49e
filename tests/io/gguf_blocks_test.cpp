// SPDX-License-Identifier: Apache-2.0
// The block formats of GGUF, decoded: hand vectors, checksums, and every type against another implementation, bit for
// bit.
#include "kdlib/quant/gguf_blocks.hpp"

#include <cmath>

#include "kdlib/io/safetensors.hpp"
#include "support.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using kdlib_tests::bytes_of;
using kdlib_tests::hex;

namespace {
std::vector<float> decode(GgufType type, const std::string& blocks) {
  std::vector<float> out(blocks.size() / block_bytes(type) * block_size(type));
  decode_row(type, bytes_of(blocks).data(), out.data(), out.size());
  return out;
}
std::string repeat(const std::string& bytes, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += bytes;
  return out;
}
/// n bytes (a*i + b) & 255.
std::string ramp(std::size_t n, unsigned a, unsigned b) {
  std::string out;
  for (unsigned i = 0; i < n; ++i) out += static_cast<char>((a * i + b) & 255);
  return out;
}
double sum(const std::vector<float>& y) {
  double s = 0;
  for (const float v : y) s += static_cast<double>(v);
  return s;
}
double weighted_sum(const std::vector<float>& y) {
  double s = 0;
  for (std::size_t i = 0; i < y.size(); ++i) s += static_cast<double>(i + 1) * static_cast<double>(y[i]);
  return s;
}
/// A vector of 32 zeros but for these.
std::vector<float> sparse(std::initializer_list<std::pair<std::size_t, float>> values) {
  std::vector<float> out(32);
  for (const auto& [i, v] : values) out[i] = v;
  return out;
}
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
}  // namespace

TEST_CASE("blocks of 32 decode to the values they were made of", "[quant][gguf]") {
  CHECK(decode(GgufType::q8_0, hex("003C 7F") + std::string(31, '\0')) == sparse({{0, 127.0f}}));
  CHECK(decode(GgufType::q4_0, hex("003C F0") + repeat(hex("88"), 15)) == sparse({{0, -8.0f}, {16, 7.0f}}));
  CHECK(decode(GgufType::q4_1, hex("003C 0000 0F") + std::string(15, '\0')) == sparse({{0, 15.0f}}));
  CHECK(decode(GgufType::q5_0, hex("003C FEFFFFFF F0") + std::string(15, '\0')) == sparse({{0, -16.0f}, {16, 15.0f}}));
  CHECK(decode(GgufType::q5_1, hex("003C 0000 01000200 0F") + std::string(15, '\0')) ==
        sparse({{0, 31.0f}, {17, 16.0f}}));
  CHECK(decode(GgufType::mxfp4, hex("7F A7") + std::string(15, '\0')) == sparse({{0, 6.0f}, {16, -1.0f}}));
  // 0.75 and 0.25 were rounded to 0.5 and 0.
  CHECK(decode(GgufType::mxfp4, hex("7F A7 01 00") + std::string(13, '\0')) ==
        sparse({{0, 6.0f}, {1, 0.5f}, {16, -1.0f}}));
}

TEST_CASE("the smallest and largest MXFP4 scales are right", "[quant][gguf]") {
  const auto first = [](int e) {
    return decode(GgufType::mxfp4, std::string(1, static_cast<char>(e)) + "\x07" + std::string(15, '\0'))[0];
  };
  CHECK(first(0) == std::ldexp(12.0f, -128));
  CHECK(first(1) == std::ldexp(12.0f, -127));
  CHECK(first(2) == std::ldexp(12.0f, -126));
  CHECK(first(128) == 12.0f);
  CHECK(first(250) == std::ldexp(12.0f, 122));
}

TEST_CASE("the K formats decode to the sheet's values and checksums", "[quant][gguf]") {
  const std::vector<float> low = decode(GgufType::q6_k, std::string(192, '\0') + repeat("\x01", 16) + hex("003C"));
  CHECK(low == std::vector<float>(256, -32.0f));
  const std::vector<float> plain =
      decode(GgufType::q4_k, hex("003C 0000 01010101 00000000 01010101") + repeat("\x21", 128));
  for (std::size_t i = 0; i < 256; ++i) CHECK(plain[i] == (i / 32 % 2 == 0 ? 1.0f : 2.0f));

  const std::vector<float> q6 =
      decode(GgufType::q6_k, ramp(128, 7, 3) + ramp(64, 5, 1) + ramp(16, 1, 248) + hex("003C"));
  CHECK(std::vector<float>{q6[0], q6[33], q6[70], q6[101], q6[255]} == std::vector<float>{104, 36, 56, 64, -175});
  CHECK(sum(q6) == 1584);
  CHECK(weighted_sum(q6) == 86120);
  const std::string head = hex("003C 0038") + ramp(12, 37, 11);
  const std::vector<float> q4 = decode(GgufType::q4_k, head + ramp(128, 7, 3));
  CHECK(std::vector<float>{q4[0], q4[33], q4[70], q4[161], q4[255]} ==
        std::vector<float>{17.5f, -2, 252.5f, 69.5f, 121});
  CHECK(sum(q4) == 40560);
  CHECK(weighted_sum(q4) == 4813976);
  const std::vector<float> q5 = decode(GgufType::q5_k, head + ramp(32, 5, 1) + ramp(128, 7, 3));
  CHECK(std::vector<float>{q5[0], q5[33], q5[70], q5[161], q5[255]} ==
        std::vector<float>{193.5f, 766, 588.5f, 69.5f, 409});
  CHECK(sum(q5) == 86080);
  CHECK(weighted_sum(q5) == 9701880);
}

TEST_CASE("random blocks of every type decode as another implementation decodes them, bit for bit",
          "[quant][gguf][reference]") {
  const SafetensorsFile file{kdlib_tests::reference_file("io/gguf_raw_blocks.safetensors")};
  for (const GgufType type :
       {GgufType::f32, GgufType::f16, GgufType::bf16, GgufType::q8_0, GgufType::q4_0, GgufType::q4_1, GgufType::q5_0,
        GgufType::q5_1, GgufType::q4_k, GgufType::q5_k, GgufType::q6_k, GgufType::mxfp4}) {
    INFO(gguf_type_name(type));
    const std::string name = std::string("raw.") + gguf_type_name(type);
    const TensorInfo& raw = file.at(name);
    std::vector<float> got(static_cast<std::size_t>(file.at(name + ".out").count()));
    REQUIRE(raw.data.size() == got.size() / block_size(type) * block_bytes(type));
    decode_row(type, raw.data.data(), got.data(), got.size());
    CHECK(same_bits(got, read_as<float>(file.at(name + ".out"))));
  }
}

TEST_CASE("whole containers decode as another implementation decodes them", "[quant][gguf][reference]") {
  int decoded = 0;
  for (const std::string name : {"io/mixed_32", "io/mixed_64"}) {
    const GgufFile file{kdlib_tests::reference_file(name + ".gguf")};
    const SafetensorsFile want{kdlib_tests::reference_file(name + ".safetensors")};
    for (const GgufTensor& tensor : file.tensors()) {
      INFO(tensor.text());
      CHECK(want.at(tensor.name).shape() == tensor.shape);
      if (!can_decode(tensor.type)) {
        CHECK((tensor.type == GgufType::q2_k || tensor.type == GgufType::q3_k));
        CHECK_THROWS_WITH(decode_tensor<float>(tensor),
                          contains(gguf_type_name(tensor.type)) && contains("is not decoded"));
        continue;
      }
      ++decoded;
      const std::vector<float> got = decode_tensor<float>(tensor);
      CHECK(same_bits(got, read_as<float>(want.at(tensor.name))));
      const std::vector<bf16> rounded = decode_tensor<bf16>(tensor);
      bool equal = rounded.size() == got.size();
      for (std::size_t i = 0; equal && i < got.size(); ++i) equal = rounded[i].bits == bf16(got[i]).bits;
      CHECK(equal);
    }
  }
  CHECK(decoded == 44);
}

TEST_CASE("rows of broken blocks and wrong room are refused", "[quant][gguf]") {
  std::byte blocks[34] = {};
  float out[64];
  CHECK_THROWS_AS(decode_row(GgufType::q8_0, blocks, out, 31), ShapeError);
  CHECK_THROWS_WITH(decode_row(GgufType::q2_k, blocks, out, 256), contains("Q2_K is not decoded"));
  GgufTensor tensor;
  tensor.type = GgufType::q8_0;
  tensor.shape = Shape{32};
  tensor.data = std::span<const std::byte>(blocks);
  CHECK_THROWS_AS(decode_tensor(tensor, std::span<float>(out)), ShapeError);
  CHECK_NOTHROW(decode_tensor(tensor, std::span<float>(out, 32)));
}

TEST_CASE("a whole model in GGUF form is opened and decoded", "[quant][gguf][reference]") {
  const auto path = kdlib_tests::shared_file("reference/quant/tiny_llama_q8_0.gguf");
  if (!path) KDLIB_SKIP("reference/quant is not here (set KDLIB_SHARED_DIR)");
  const GgufFile file{*path};
  CHECK(file.at("general.architecture").as_string() == "llama");
  const std::size_t tokens = file.at("tokenizer.ggml.tokens").as_strings().size();
  CHECK(static_cast<std::int64_t>(tokens) == file.tensor("token_embd.weight").shape[0]);
  for (const GgufTensor& tensor : file.tensors())
    for (const float x : decode_tensor<float>(tensor)) REQUIRE(std::isfinite(x));
}
