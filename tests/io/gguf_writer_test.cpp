// SPDX-License-Identifier: Apache-2.0
// Writing GGUF: the sheet's file byte for byte, files of another writer copied byte for byte, encoders against ggml's,
// refusals.
#include "kdlib/io/gguf_writer.hpp"

#include <cmath>
#include <limits>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/quant/gguf_blocks.hpp"
#include "kdlib/quant/gguf_encode.hpp"
#include "support.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using kdlib_tests::hex;
using kdlib_tests::reference_file;
using kdlib_tests::TemporaryDirectory;

namespace {
std::string encoded(GgufType type, const std::vector<float>& values) {
  std::string out(values.size() / block_size(type) * block_bytes(type), '\0');
  encode_row(type, values.data(), reinterpret_cast<std::byte*>(out.data()), values.size());
  return out;
}
std::vector<float> block(std::initializer_list<std::pair<std::size_t, float>> values) {
  std::vector<float> out(32);
  for (const auto& [i, v] : values) out[i] = v;
  return out;
}
}  // namespace

TEST_CASE("the small complete file is written byte for byte as the reference library does", "[io][gguf]") {
  const TemporaryDirectory dir;
  const std::vector<float> a = {0, 1, 2, 3, 4, 5};
  const std::vector<f16> b = {f16(1.0f), f16(-2.0f)};
  GgufWriter writer(dir / "s.gguf");
  writer.string("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .strings("t", {"x", "yz"})
      .boolean("f", true);
  writer.add("a.weight", GgufType::f32, Shape{2, 3}, std::as_bytes(std::span<const float>(a)));
  writer.add_from("b", GgufType::f16, Shape{2}, [&](AtomicFile& file) { file.write(b.data(), 4); });
  CHECK_FALSE(kdlib_tests::exists(dir / "s.gguf"));
  writer.commit();
  CHECK(read_file(dir / "s.gguf") == hex("47475546 03000000 02000000 00000000 04000000 00000000 14000000 00000000 "
                                         "67656e65 72616c2e 61726368 69746563 74757265 08000000 05000000 00000000"
                                         "6c6c616d 61110000 00000000 006c6c61 6d612e62 6c6f636b 5f636f75 6e740400 "
                                         "00000100 00000100 00000000 00007409 00000008 00000002 00000000 00000001"
                                         "00000000 00000078 02000000 00000000 797a0100 00000000 00006607 00000001 "
                                         "08000000 00000000 612e7765 69676874 02000000 03000000 00000000 02000000"
                                         "00000000 00000000 00000000 00000000 01000000 00000000 62010000 00020000 "
                                         "00000000 00010000 00200000 00000000 00000000 00000000 00000000 00000000"
                                         "00000000 0000803f 00000040 00004040 00008040 0000a040 00000000 00000000 "
                                         "003c00c0 00000000 00000000 00000000 00000000 00000000 00000000 00000000"));
  CHECK_THROWS_AS(writer.commit(), FormatError);
  GgufWriter empty(dir / "e.gguf");
  empty.commit();
  CHECK(read_file(dir / "e.gguf") == hex("47475546 03000000 0000000000000000 0000000000000000"));
}

TEST_CASE("files of another writer are copied byte for byte", "[io][gguf]") {
  for (const std::uint32_t alignment : {32u, 64u}) {
    const std::string path = reference_file(concat("io/mixed_", alignment, ".gguf"));
    const TemporaryDirectory dir;
    const GgufFile file(path);
    GgufWriter writer(dir / "copy.gguf");
    GgufWriter aligned(dir / "aligned.gguf", 64);
    GgufWriter& used = alignment == 64 ? aligned : writer;
    // The other writer puts the architecture first; this one puts the alignment there: compare with that key moved to
    // the front.
    for (const GgufValue& v : file.metadata())
      if (v.key() != "general.alignment") used.copy(v);
    for (const GgufTensor& t : file.tensors()) used.add(t.name, t.type, t.shape, t.data);
    used.commit();
    const GgufFile again(alignment == 64 ? dir / "aligned.gguf" : dir / "copy.gguf");
    CHECK(again.alignment() == alignment);
    REQUIRE(again.metadata().size() == file.metadata().size());
    for (const GgufValue& v : file.metadata()) {
      CAPTURE(v.key());
      const GgufValue& w = again.at(v.key());
      CHECK(w.kind() == v.kind());
      CHECK(std::string(reinterpret_cast<const char*>(w.bytes().data()), w.bytes().size()) ==
            std::string(reinterpret_cast<const char*>(v.bytes().data()), v.bytes().size()));
    }
    if (alignment == 32) CHECK(read_file(dir / "copy.gguf") == read_file(path));
    else CHECK(read_file(dir / "aligned.gguf").substr(again.data_start()) == read_file(path).substr(file.data_start()));
  }
}

TEST_CASE("encoders give the blocks of ggml's reference quantisers", "[quant][gguf]") {
  const SafetensorsFile reference(reference_file("io/gguf_encoded.safetensors"));
  const std::vector<float> input = read_as<float>(reference.at("encode.input"));
  for (const GgufType type :
       {GgufType::q8_0, GgufType::q4_0, GgufType::q4_1, GgufType::q5_0, GgufType::q5_1, GgufType::mxfp4}) {
    CAPTURE(gguf_type_name(type));
    const std::vector<std::uint8_t> wanted =
        read_as<std::uint8_t>(reference.at(concat("encode.", gguf_type_name(type))));
    const std::string got = encoded(type, input);
    CHECK(got == std::string(wanted.begin(), wanted.end()));
  }
}

TEST_CASE("hand vectors of the encoders", "[quant][gguf]") {
  CHECK(encoded(GgufType::q8_0, block({{0, 127.0f}})) == hex("003C 7F") + std::string(31, '\0'));
  CHECK(encoded(GgufType::q4_0, block({{0, -8.0f}, {16, 7.0f}})) == hex("003C F0") + std::string(15, '\x88'));
  CHECK(encoded(GgufType::q4_1, block({{0, 15.0f}})) == hex("003C 0000 0F") + std::string(15, '\0'));
  CHECK(encoded(GgufType::q5_0, block({{0, -16.0f}, {16, 15.0f}})) == hex("003C FEFFFFFF F0") + std::string(15, '\0'));
  CHECK(encoded(GgufType::q5_1, block({{0, 31.0f}, {17, 16.0f}})) ==
        hex("003C 0000 01000200 0F") + std::string(15, '\0'));
  CHECK(encoded(GgufType::mxfp4, block({{0, 6.0f}, {1, 0.75f}, {2, 0.25f}, {16, -1.0f}})) ==
        hex("7F A7 01 00") + std::string(13, '\0'));
  CHECK(encoded(GgufType::f16, {1.0f, -2.0f}) == hex("003C 00C0"));
  CHECK(encoded(GgufType::bf16, {1.0f, -2.0f}) == hex("803F 00C0"));
}

TEST_CASE("MXFP4 values survive decoding and encoding", "[quant][gguf]") {
  std::vector<float> values(32);
  for (const int e : {2, 100, 127, 200}) {
    const std::string blocks = std::string(1, static_cast<char>(e)) + hex("102132435465768798A9BACBDCEDFE0F");
    decode_row(GgufType::mxfp4, reinterpret_cast<const std::byte*>(blocks.data()), values.data(), 32);
    std::vector<float> again(32);
    const std::string second = encoded(GgufType::mxfp4, values);
    decode_row(GgufType::mxfp4, reinterpret_cast<const std::byte*>(second.data()), again.data(), 32);
    CHECK(again == values);
  }
}

TEST_CASE("what cannot be written is refused", "[io][gguf]") {
  const TemporaryDirectory dir;
  GgufWriter writer(dir / "w.gguf");
  writer.u32("a", 1);
  CHECK_THROWS_WITH(writer.u32("a", 2), kdlib_tests::contains("key \"a\" is given twice"));
  CHECK_THROWS_AS(writer.string("", "x"), FormatError);
  CHECK_THROWS_AS(writer.strings("b", {}), FormatError);
  CHECK_THROWS_WITH(writer.string("c", "\xFF"), kdlib_tests::contains("no UTF-8"));
  const std::vector<float> values(40);
  const auto bytes = std::as_bytes(std::span<const float>(values));
  CHECK_THROWS_WITH(writer.add("t", GgufType::f32, Shape{2, 3}, bytes),
                    kdlib_tests::contains("needs 24 bytes, it got 160"));
  CHECK_THROWS_WITH(writer.add("t", GgufType::q8_0, Shape{40}, bytes),
                    kdlib_tests::contains("no whole number of Q8_0 blocks of 32"));
  CHECK_THROWS_AS(writer.add(std::string(64, 'n'), GgufType::f32, Shape{40}, bytes), FormatError);
  CHECK_THROWS_AS(writer.add("t", GgufType::f32, Shape{0}, bytes.first(0)), ShapeError);
  CHECK_THROWS_AS(GgufWriter(dir / "x.gguf", 48), FormatError);
  GgufWriter twice(dir / "w.gguf");
  twice.add("t", GgufType::f32, Shape{40}, bytes);
  twice.add("t", GgufType::f32, Shape{40}, bytes);
  CHECK_THROWS_WITH(twice.commit(), kdlib_tests::contains("tensor \"t\" is given twice"));
  GgufWriter liar(dir / "w.gguf");
  liar.add_from("t", GgufType::f32, Shape{4}, [](AtomicFile& file) { file.write("abc"); });
  CHECK_THROWS_WITH(liar.commit(), kdlib_tests::contains("needs 16 bytes, 3 were written"));
  CHECK_FALSE(kdlib_tests::exists(dir / "w.gguf"));

  CHECK_THROWS_WITH(encoded(GgufType::f16, {65536.0f}), kdlib_tests::contains("beyond the range of F16"));
  CHECK_THROWS_AS(encoded(GgufType::q8_0, block({{3, std::numeric_limits<float>::quiet_NaN()}})), FormatError);
  CHECK_THROWS_AS(encoded(GgufType::q8_0, block({{3, 1e9f}})), FormatError);
  CHECK_THROWS_AS(encoded(GgufType::q4_k, std::vector<float>(256)), FormatError);
  CHECK_THROWS_AS(encoded(GgufType::q8_0, std::vector<float>(16)), ShapeError);
  CHECK(gguf_type_from_name("q8_0") == GgufType::q8_0);
  CHECK(gguf_type_from_name("BF16") == GgufType::bf16);
  CHECK_THROWS_WITH(gguf_type_from_name("q4_k"), kdlib_tests::contains("it can be F32, F16"));
}
