// SPDX-License-Identifier: Apache-2.0
// Reading one safetensors file: the format's test vectors, every refusal by its rule, conversions.
#include "kdlib/io/safetensors.hpp"

#include <cmath>
#include <limits>

#include "support.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using kdlib_tests::bytes_of;
using kdlib_tests::hex;
using kdlib_tests::le;
using kdlib_tests::safetensors;
using kdlib_tests::TemporaryDirectory;

namespace {
std::string rule_of(const std::string& file) {
  try {
    parse_safetensors(bytes_of(file), "t.safetensors");
  } catch (const FormatError& error) {
    const std::string text = error.what();
    CHECK(text.rfind("[safetensors] t.safetensors: ", 0) == 0);
    const std::size_t open = text.rfind('(');
    return text.substr(open + 1, text.size() - open - 2);
  }
  return "accepted";
}
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"test\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
}
}  // namespace

TEST_CASE("the format's first vector reads as a tensor of six floats", "[io][safetensors]") {
  const std::string file = hex("40 00 00 00 00 00 00 00") +
                           R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})" +
                           hex("00000000 0000803F 00000040 00004040 00008040 0000A040");
  REQUIRE(file.size() == 96);
  const TemporaryDirectory dir;
  write_file_atomically(dir / "v", file);
  const SafetensorsFile read{dir / "v"};
  REQUIRE(read.tensors().size() == 1);
  const TensorInfo& tensor = read.at("attn.0");
  CHECK(tensor.dtype == DType::f32);
  CHECK(tensor.shape() == Shape{1, 2, 3});
  CHECK(read_as<float>(tensor) == std::vector<float>{0, 1, 2, 3, 4, 5});
  CHECK(read.find("attn.1") == nullptr);
  CHECK_THROWS_WITH(read.at("attn.1"), contains(dir / "v") && contains("\"attn.1\" is missing") && contains("attn.0"));
}

TEST_CASE("files without data, scalars, zero extents and padding are valid", "[io][safetensors]") {
  CHECK(rule_of(safetensors("{}      ", 0)) == "accepted");
  CHECK(rule_of(safetensors("{}", 0)) == "accepted");
  CHECK(rule_of(safetensors("  \n{}", 0)) == "accepted");
  CHECK(rule_of(safetensors(entry("I32", "[2,2]", "[0,16]"), 16)) == "accepted");
  CHECK(rule_of(safetensors(entry("I32", "[2,0]", "[0,0]"), 0)) == "accepted");
  CHECK(rule_of(safetensors(entry("F4", "[1,2]", "[0,1]") + "    ", 1)) == "accepted");
  CHECK(rule_of(safetensors(entry("U8", "[1,1,1,1,1,2]", "[0,2]"), 2)) == "accepted");
  const std::string scalar = safetensors(entry("I32", "[]", "[0,4]"), 4);
  const SafetensorsHeader header = parse_safetensors(bytes_of(scalar), "s");
  CHECK(header.tensors.at(0).count() == 1);
  CHECK(header.tensors.at(0).shape().rank() == 0);
  CHECK(read_as<std::int32_t>(header.tensors.at(0)) == std::vector<std::int32_t>{0x03020100});
}

TEST_CASE("the length of the header is checked before the header", "[io][safetensors]") {
  CHECK(rule_of("") == "HeaderTooSmall");
  CHECK(rule_of(std::string(7, '\0')) == "HeaderTooSmall");
  CHECK(rule_of(hex("3C000000 00FFFFFF")) == "HeaderTooLarge");
  CHECK(rule_of(le(std::uint64_t{100'000'001})) == "HeaderTooLarge");
  CHECK(rule_of(le(std::uint64_t{100'000'000})) == "InvalidHeaderLength");
  CHECK(rule_of(hex("FFFFFFFF FFFFFFFF")) == "HeaderTooLarge");
  CHECK(rule_of(hex("3C000000 00000000")) == "InvalidHeaderLength");
  CHECK(rule_of(le(std::uint64_t{3}) + "{}") == "InvalidHeaderLength");
}

TEST_CASE("a header that is not UTF-8 or not JSON of the right form is refused", "[io][safetensors]") {
  const std::string bad = "InvalidHeaderDeserialization";
  CHECK(rule_of(safetensors("\xFF", 0)) == "InvalidHeader");
  CHECK(rule_of(safetensors("{\"\xED\xA0\x80\":1}", 0)) == "InvalidHeader");
  for (const char* header : {"{", "", "[]", "1", "{} x", "{\"a\":1}", "{\"a\":{}}", R"({"__metadata__":{"a":1}})",
                             R"({"__metadata__":["a"]})", R"({"__metadata__":null})"}) {
    INFO(header);
    CHECK(rule_of(safetensors(header, 0)) == bad);
  }
  CHECK(rule_of(safetensors("{}" + std::string(1, '\0'), 0)) == bad);
  for (const char* shape :
       {"[2,-1]", "[2,1.5]", "[2,18446744073709551616]", "[\"2\"]", "2", "{}", "null", "[[2]]", "[2e0]"}) {
    INFO(shape);
    CHECK(rule_of(safetensors(entry("I32", shape, "[0,8]"), 8)) == bad);
  }
  for (const char* offsets : {"[0]", "[0,8,8]", "[0,-8]", "[0,8.0]", "{}", "8", "[null,8]"}) {
    INFO(offsets);
    CHECK(rule_of(safetensors(entry("I32", "[2]", offsets), 8)) == bad);
  }
  for (const char* dtype : {"i32", "F128", "", "F32 "})
    CHECK(rule_of(safetensors(entry(dtype, "[2]", "[0,8]"), 8)) == bad);
  CHECK(rule_of(safetensors(R"({"t":{"dtype":32,"shape":[2],"data_offsets":[0,8]}})", 8)) == bad);
  CHECK(rule_of(safetensors(R"({"t":{"dtype":"F32","shape":[2]}})", 8)) == bad);
  CHECK(rule_of(safetensors(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", 8)) == bad);
  CHECK(rule_of(safetensors(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"t":{"dtype":"F32","shape":[2],)"
                            R"("data_offsets":[0,8]}})",
                            8)) == bad);
  CHECK(rule_of(safetensors(R"({"t":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})", 8)) == bad);
  CHECK(rule_of(safetensors(std::string(1000, '['), 0)) == bad);
}

TEST_CASE("tensors must follow each other without hole or overlap", "[io][safetensors]") {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"I32","shape":[2,2],"data_offsets":)" + a +
           R"(},"b":{"dtype":"I32","shape":[2,2],"data_offsets":)" + b + "}}";
  };
  CHECK(rule_of(safetensors(two("[0,16]", "[16,32]"), 32)) == "accepted");
  CHECK(rule_of(safetensors(two("[16,32]", "[0,16]"), 32)) == "accepted");
  CHECK(rule_of(safetensors(two("[0,16]", "[20,36]"), 36)) == "InvalidOffset");
  CHECK(rule_of(safetensors(two("[0,16]", "[4,20]"), 20)) == "InvalidOffset");
  CHECK(rule_of(safetensors(two("[0,16]", "[0,16]"), 16)) == "InvalidOffset");
  CHECK(rule_of(safetensors(entry("I32", "[2,2]", "[4,20]"), 20)) == "InvalidOffset");
  CHECK(rule_of(safetensors(two("[0,16]", "[16,12]"), 16)) == "InvalidOffset");
  CHECK(rule_of(safetensors(entry("I32", "[0]", "[0,0]"), 0)) == "accepted");
  // Empty tensors may share their begin with each other and with the next one.
  const std::string shared =
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
      R"("c":{"dtype":"U8","shape":[3,0],"data_offsets":[2,2]}})";
  CHECK(rule_of(safetensors(shared, 2)) == "accepted");
}

TEST_CASE("shape, type, offsets and file size must agree", "[io][safetensors]") {
  CHECK(rule_of(safetensors(entry("I32", "[2,2]", "[0,4]"), 4)) == "TensorInvalidInfo");
  CHECK(rule_of(safetensors(entry("I32", "[2,2]", "[0,17]"), 17)) == "TensorInvalidInfo");
  CHECK(rule_of(safetensors(entry("U8", "[2,18446744073709551614]", "[0,8]"), 8)) == "ValidationOverflow");
  CHECK(rule_of(safetensors(entry("I32", "[2,18446744073709551614]", "[0,8]"), 8)) == "ValidationOverflow");
  CHECK(rule_of(safetensors(entry("I32", "[2,9223372036854775807]", "[0,8]"), 8)) == "ValidationOverflow");
  CHECK(rule_of(safetensors(entry("F64", "[4611686018427387904]", "[0,8]"), 8)) == "ValidationOverflow");
  CHECK(rule_of(safetensors(entry("F4", "[3]", "[0,2]"), 2)) == "MisalignedSlice");
  CHECK(rule_of(safetensors(entry("F6_E2M3", "[2]", "[0,2]"), 2)) == "MisalignedSlice");
  CHECK(rule_of(safetensors(entry("F6_E3M2", "[4]", "[0,3]"), 3)) == "accepted");
  const std::string good = entry("I32", "[2,2]", "[0,16]");
  CHECK(rule_of(safetensors(good, 17)) == "MetadataIncompleteBuffer");
  CHECK(rule_of(safetensors(good, 14)) == "MetadataIncompleteBuffer");
  CHECK(rule_of(safetensors(good, 0)) == "MetadataIncompleteBuffer");
  CHECK(rule_of(safetensors("{}", 1)) == "MetadataIncompleteBuffer");
  CHECK(rule_of(safetensors(entry("U8", "[1152921504606846976]", "[0,1152921504606846976]"), 8)) ==
        "MetadataIncompleteBuffer");
}

TEST_CASE("every cut of a valid safetensors file is refused", "[io][safetensors]") {
  const std::string file =
      safetensors(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 4);
  for (std::size_t n = 0; n < file.size(); ++n) {
    INFO(n);
    CHECK(rule_of(file.substr(0, n)) != "accepted");
  }
  CHECK(rule_of(file) == "accepted");
}

TEST_CASE("a message names the tensor, its offsets and what was expected", "[io][safetensors]") {
  const std::string file = safetensors(entry("I32", "[2,2]", "[4,20]"), 20);
  CHECK_THROWS_WITH(parse_safetensors(bytes_of(file), "w"),
                    contains("tensor \"test\" at [4, 20)") && contains("must begin at 0"));
  const std::string shape = safetensors(entry("I32", "[2,-1]", "[0,8]"), 8);
  CHECK_THROWS_WITH(parse_safetensors(bytes_of(shape), "w"), contains("test.shape[1] is -1"));
}

TEST_CASE("metadata keep their order and are found by key", "[io][safetensors]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "m", safetensors(R"({"__metadata__":{"z":"1","format":"pt"}})", 0));
  const SafetensorsFile file{dir / "m"};
  REQUIRE(file.metadata().size() == 2);
  CHECK(file.metadata()[0].first == "z");
  CHECK(file.metadata("format") == "pt");
  CHECK_FALSE(file.metadata("none"));
}

TEST_CASE("stored types convert to the type asked for", "[io][safetensors]") {
  const auto read = [](DType dtype, const std::string& bytes, std::uint64_t n) {
    TensorInfo info;
    info.name = "x";
    info.dtype = dtype;
    info.extents = {n};
    info.data = bytes_of(bytes);
    return info;
  };
  const std::string halves = hex("003C 00C0 0100 007C 00FC 0080"), brains = hex("803F 00C0 0100 807F");
  const TensorInfo f16s = read(DType::f16, halves, 6), bf16s = read(DType::bf16, brains, 4);
  CHECK(read_as<float>(f16s)[1] == -2.0f);
  CHECK(read_as<float>(f16s)[2] == 0x1p-24f);
  CHECK(std::isinf(read_as<float>(f16s)[3]));
  CHECK(std::signbit(read_as<double>(f16s)[5]));
  CHECK(read_as<float>(bf16s)[0] == 1.0f);
  CHECK(read_as<float>(bf16s)[2] == 0x1p-133f);
  CHECK(read_as<f16>(bf16s)[1].bits == 0xC000);
  const std::string doubles = le(1.0) + le(-2.5), bytes = hex("00 7F 80 FF"),
                    longs = le(std::int64_t{-5}) + le(std::int64_t{1} << 40);
  CHECK(read_as<float>(read(DType::f64, doubles, 2)) == std::vector<float>{1.0f, -2.5f});
  CHECK(read_as<double>(read(DType::i8, bytes, 4)) == std::vector<double>{0, 127, -128, -1});
  CHECK(read_as<std::int64_t>(read(DType::u8, bytes, 4)) == std::vector<std::int64_t>{0, 127, 128, 255});
  CHECK(read_as<std::int64_t>(read(DType::i64, longs, 2))[1] == std::int64_t{1} << 40);
  CHECK_THROWS_WITH(read_as<std::int32_t>(read(DType::i64, longs, 2)),
                    contains("element 1") && contains("out of range"));
  CHECK_THROWS_AS(read_as<std::uint32_t>(read(DType::i64, longs, 2)), FormatError);
  CHECK_THROWS_WITH(read_as<std::int32_t>(read(DType::f64, doubles, 2)), contains("F64") && contains("fractions"));
  CHECK_THROWS_WITH(read_as<float>(read(DType::f8_e4m3, bytes, 4)), contains("F8_E4M3"));
  float few[1];
  CHECK_THROWS_AS(read_as<float>(read(DType::f64, doubles, 2), std::span<float>(few)), ShapeError);
}

TEST_CASE("the table of element types agrees with the format", "[io][safetensors]") {
  const char* names[] = {"BOOL",    "F4",          "F6_E2M3",     "F6_E3M2", "U8",  "I8",  "F8_E5M2", "F8_E4M3",
                         "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",     "U16", "F16", "BF16",    "I32",
                         "U32",     "F32",         "C64",         "F64",     "I64", "U64"};
  int rank = 0;
  for (const char* name : names) {
    const auto dtype = parse_dtype(name);
    REQUIRE(dtype);
    CHECK(static_cast<int>(*dtype) == rank++);
    CHECK(std::string(dtype_name(*dtype)) == name);
  }
  CHECK(dtype_bits(DType::f4) == 4);
  CHECK(dtype_bits(DType::f6_e3m2) == 6);
  CHECK(dtype_bits(DType::bf16) == 16);
  CHECK(dtype_bits(DType::c64) == 64);
}

TEST_CASE("a tensor of more axes than a Shape has is read, but has no Shape", "[io][safetensors]") {
  const std::string file = safetensors(entry("U8", "[1,1,1,1,2]", "[0,2]"), 2);
  const SafetensorsHeader header = parse_safetensors(bytes_of(file), "x");
  CHECK(read_as<float>(header.tensors[0]) == std::vector<float>{0, 1});
  CHECK_THROWS_AS(header.tensors[0].shape(), ShapeError);
}
