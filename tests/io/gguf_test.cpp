// SPDX-License-Identifier: Apache-2.0
// The GGUF container: the sheet's files, files of another writer, every refusal.
#include "kdlib/io/gguf.hpp"

#include <cstdlib>

#include "kdlib/io/json.hpp"
#include "support.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using kdlib_tests::bytes_of;
using kdlib_tests::GgufBytes;
using kdlib_tests::hex;
using kdlib_tests::le;
using kdlib_tests::TemporaryDirectory;
using Kind = GgufValue::Kind;

namespace {
/// The complete file of 320 bytes that the reference library writes.
const char* const small_file =
    "47475546 03000000 02000000 00000000 04000000 00000000 14000000 00000000 67656e65 72616c2e 61726368 69746563 "
    "74757265 08000000 05000000 00000000"
    "6c6c616d 61110000 00000000 006c6c61 6d612e62 6c6f636b 5f636f75 6e740400 00000100 00000100 00000000 00007409 "
    "00000008 00000002 00000000 00000001"
    "00000000 00000078 02000000 00000000 797a0100 00000000 00006607 00000001 08000000 00000000 612e7765 69676874 "
    "02000000 03000000 00000000 02000000"
    "00000000 00000000 00000000 00000000 01000000 00000000 62010000 00020000 00000000 00010000 00200000 00000000 "
    "00000000 00000000 00000000 00000000"
    "00000000 0000803f 00000040 00004040 00008040 0000a040 00000000 00000000 003c00c0 00000000 00000000 00000000 "
    "00000000 00000000 00000000 00000000";

std::string message(const std::string& file) {
  try {
    parse_gguf(bytes_of(file), "t.gguf");
  } catch (const FormatError& error) {
    CHECK(std::string(error.what()).rfind("[gguf] t.gguf: ", 0) == 0);
    return error.what();
  }
  return "accepted";
}
std::string message(const GgufBytes& file) { return message(file.file()); }

constexpr std::uint32_t u8 = 0, u32 = 4, boolean = 7, string = 8, array = 9;
GgufBytes one_tensor(std::initializer_list<std::uint64_t> extents, std::uint32_t type, std::size_t bytes) {
  GgufBytes file;
  file.tensor("w", extents, type, 0);
  file.data = std::string(bytes, 'x');
  return file;
}
}  // namespace

TEST_CASE("the small complete file reads as it was written", "[io][gguf]") {
  const std::string bytes = hex(small_file);
  REQUIRE(bytes.size() == 320);
  const TemporaryDirectory dir;
  write_file_atomically(dir / "s.gguf", bytes);
  GgufFile opened{dir / "s.gguf"};
  const GgufFile file = std::move(opened);
  CHECK(file.metadata().size() == 4);
  CHECK(file.at("general.architecture").as_string() == "llama");
  CHECK(file.at("llama.block_count").as_uint() == 1);
  CHECK(file.at("llama.block_count").as_double() == 1.0);
  CHECK(file.at("t").as_strings() == std::vector<std::string_view>{"x", "yz"});
  CHECK(file.at("f").as_bool());
  CHECK(file.alignment() == 32);
  REQUIRE(file.tensors().size() == 2);
  const GgufTensor& a = file.tensor("a.weight");
  CHECK(a.shape == Shape{2, 3});  // stored as [3, 2]
  CHECK(a.type == GgufType::f32);
  CHECK(a.offset == 256);
  float values[6];
  std::memcpy(values, a.data.data(), sizeof values);
  for (int i = 0; i < 6; ++i) CHECK(values[i] == static_cast<float>(i));
  CHECK(file.tensor("b").type == GgufType::f16);
  CHECK(file.tensor("b").data.size() == 4);
  CHECK(file.find("none") == nullptr);
  CHECK(file.find_tensor("c") == nullptr);
  CHECK_THROWS_WITH(file.at("none"), contains("s.gguf") && contains("\"none\" is missing"));
  CHECK_THROWS_WITH(file.tensor("c"), contains("\"c\" is missing"));
}

TEST_CASE("a wrong kind of value is refused with file, key and kinds", "[io][gguf]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "s.gguf", hex(small_file));
  const GgufFile file{dir / "s.gguf"};
  CHECK_THROWS_WITH(file.at("t").as_string(),
                    contains("s.gguf") && contains("key \"t\" holds an array of string, a string is needed"));
  CHECK_THROWS_AS(file.at("general.architecture").as_int(), FormatError);
  CHECK_THROWS_AS(file.at("general.architecture").as_strings(), FormatError);
  CHECK_THROWS_AS(file.at("f").as_double(), FormatError);
  CHECK_THROWS_AS(file.at("llama.block_count").as_bool(), FormatError);
  CHECK_THROWS_AS(file.at("t").as_ints(), FormatError);
  CHECK_THROWS_AS(file.at("t").as_doubles(), FormatError);
  CHECK_THROWS_AS(file.at("t").as_bools(), FormatError);
  CHECK(file.int_or("llama.block_count", 7) == 1);
  CHECK(file.int_or("none", 7) == 7);
  CHECK(file.string_or("general.architecture", "x") == "llama");
  CHECK(file.string_or("none", "x") == "x");
  CHECK(file.bool_or("f", false));
  CHECK(file.double_or("none", 0.5) == 0.5);
  CHECK_THROWS_AS(file.int_or("f", 1), FormatError);
}

TEST_CASE("files of another writer hold the metadata and tensors that their lists say", "[io][gguf][reference]") {
  for (const char* name : {"io/mixed_32", "io/mixed_64"}) {
    INFO(name);
    const GgufFile file{kdlib_tests::reference_file(std::string(name) + ".gguf")};
    const Json want = Json::parse_file(kdlib_tests::reference_file(std::string(name) + ".json"));
    CHECK(file.alignment() == want.at("alignment").as_uint());
    CHECK(file.data_start() == want.at("data_start").as_uint());
    const Json tensors = want.at("tensors");
    REQUIRE(file.tensors().size() == tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const GgufTensor& tensor = file.tensors()[i];
      CHECK(tensor.name == tensors[i].at("name").as_string());
      CHECK(gguf_type_name(tensor.type) == tensors[i].at("type").as_string());
      CHECK(tensor.offset == tensors[i].at("offset").as_uint());
      CHECK(tensor.data.size() == tensors[i].at("bytes").as_uint());
      const Json dims = tensors[i].at("dims");
      REQUIRE(dims.size() == static_cast<std::size_t>(tensor.shape.rank()));
      for (int d = 0; d < tensor.shape.rank(); ++d)
        CHECK(dims[dims.size() - 1 - static_cast<std::size_t>(d)].as_int() == tensor.shape[d]);
    }
  }
}

namespace {
/// A scalar as the list writes it.
void check_value(const GgufValue& value, std::string_view want) {
  const std::string text(want);
  if (value.kind() == Kind::string) CHECK(value.as_string() == want);
  else if (value.kind() == Kind::boolean) CHECK(value.as_bool() == (want == "True"));
  else if (value.kind() == Kind::f32 || value.kind() == Kind::f64)
    CHECK(value.as_double() == std::strtod(text.c_str(), nullptr));
  else if (value.kind() == Kind::u64) CHECK(value.as_uint() == std::strtoull(text.c_str(), nullptr, 10));
  else CHECK(value.as_int() == std::strtoll(text.c_str(), nullptr, 10));
}
void check_array(const GgufValue& value, const Json& want) {
  REQUIRE(value.size() == want.size());
  const auto text = [&](std::size_t i) { return std::string(want[i].as_string()); };
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (value.element_kind() == Kind::string) CHECK(value.as_strings()[i] == text(i));
    else if (value.element_kind() == Kind::boolean) CHECK(value.as_bools()[i] == (text(i) == "True"));
    else if (value.element_kind() == Kind::f32 || value.element_kind() == Kind::f64)
      CHECK(value.as_doubles()[i] == std::strtod(text(i).c_str(), nullptr));
    else if (value.element_kind() != Kind::u64) CHECK(value.as_ints()[i] == std::strtoll(text(i).c_str(), nullptr, 10));
  }
}
}  // namespace

TEST_CASE("every kind of metadata value reads as another writer meant it", "[io][gguf][reference]") {
  const GgufFile file{kdlib_tests::reference_file("io/mixed_64.gguf")};
  const Json want = Json::parse_file(kdlib_tests::reference_file("io/mixed_64.json")).at("metadata");
  REQUIRE(file.metadata().size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    const GgufValue& value = file.metadata()[i];
    INFO(value.key());
    CHECK(value.key() == want[i].at("key").as_string());
    if (value.is_array()) check_array(value, want[i].at("value"));
    else check_value(value, want[i].at("value").as_string());
  }
}

TEST_CASE("a minimal file, version 2, odd keys and empty arrays are accepted", "[io][gguf]") {
  CHECK(message(hex("47475546 03000000 0000000000000000 0000000000000000")) == "accepted");
  GgufBytes file;
  file.version = 2;
  file.pair("Upper Case & \xC3\xA9", u8, "a")
      .pair("empty", array, le(u32) + le(std::uint64_t{0}))
      .pair("none", array, le(string) + le(std::uint64_t{0}));
  const std::string bytes = file.file();
  const GgufHeader header = parse_gguf(bytes_of(bytes), "x");
  CHECK(header.metadata[0].as_int() == 'a');
  CHECK(header.metadata[1].as_ints().empty());
  CHECK(header.metadata[2].as_strings().empty());
}

TEST_CASE("magic and version are checked first", "[io][gguf]") {
  CHECK_THAT(message(std::string("GGU")), contains("byte 0"));
  CHECK_THAT(message(std::string("GGML") + std::string(20, '\0')), contains("not a GGUF file"));
  CHECK_THAT(message(std::string("GGUF")), contains("byte 4"));
  GgufBytes file;
  for (const std::uint32_t version : {0u, 1u, 4u, 0xFFFFu}) {
    file.version = version;
    CHECK_THAT(message(file), contains("version"));
  }
  file.version = 0x03000000;
  CHECK_THAT(message(file), contains("big-endian"));
}

TEST_CASE("counts that the file cannot hold are refused before anything is allocated", "[io][gguf]") {
  GgufBytes file;
  for (const std::uint64_t count :
       {std::uint64_t{1}, std::uint64_t{1} << 32, std::uint64_t{1} << 62, ~std::uint64_t{0}}) {
    file.tensors = count;
    file.pairs = 0;
    CHECK_THAT(message(file), contains("more than the file can hold"));
    file.tensors = 0;
    file.pairs = count;
    CHECK_THAT(message(file), contains("more than the file can hold"));
  }
  for (const std::uint32_t element : {u8, u32, string, boolean, 12u}) {
    for (const std::uint64_t count : {std::uint64_t{100}, std::uint64_t{1} << 61, ~std::uint64_t{0}}) {
      GgufBytes list;
      list.pair("k", array, le(element) + le(count) + "12345678");
      CHECK_THAT(message(list), contains("key \"k\" says it has"));
    }
  }
  GgufBytes text;
  text.pair("k", string, le(~std::uint64_t{0}) + "abc");
  CHECK_THAT(message(text), contains("says it has 18446744073709551615 bytes, only 3 follow"));
}

TEST_CASE("keys and values that break the rules are refused", "[io][gguf]") {
  CHECK_THAT(message(GgufBytes().pair("", string, GgufBytes::text("abc"))), contains("key is empty"));
  CHECK_THAT(message(GgufBytes().pair(std::string(65536, 'k'), u8, "a")), contains("65536 bytes"));
  CHECK(message(GgufBytes().pair(std::string(65535, 'k'), u8, "a")) == "accepted");
  CHECK_THAT(message(GgufBytes().pair("a", u8, "a").pair("b", u8, "a").pair("a", u8, "a")),
             contains("key \"a\" is there twice"));
  CHECK_THAT(message(GgufBytes().pair("a", 13, "aaaaaaaa")), contains("unknown value type 13"));
  CHECK_THAT(message(GgufBytes().pair("a", array, le(13u) + le(std::uint64_t{1}) + "a")),
             contains("unknown value type 13"));
  CHECK_THAT(message(GgufBytes().pair("a", array, le(array) + le(std::uint64_t{0}))), contains("array of arrays"));
  CHECK_THAT(message(GgufBytes().pair("a", boolean, "\x02")), contains("neither 0 nor 1"));
  CHECK_THAT(message(GgufBytes().pair("a", array, le(boolean) + le(std::uint64_t{2}) + "\x01\x02")),
             contains("neither 0 nor 1"));
}

TEST_CASE("tensor entries that break the rules are refused", "[io][gguf]") {
  CHECK(message(one_tensor({3, 2}, 0, 24)) == "accepted");
  CHECK_THAT(message(one_tensor({}, 0, 4)), contains("has 0 axes"));
  CHECK_THAT(message(one_tensor({1, 1, 1, 1, 1}, 0, 4)), contains("has 5 axes"));
  CHECK_THAT(message(one_tensor({3, 0}, 0, 0)), contains("extent 0"));
  CHECK_THAT(message(one_tensor({~std::uint64_t{0}}, 0, 4)), contains("extent -1"));
  CHECK_THAT(message(one_tensor({std::uint64_t{1} << 32, std::uint64_t{1} << 31}, 0, 4)), contains("beyond 2^63"));
  CHECK_THAT(message(one_tensor({std::uint64_t{1} << 62}, 0, 4)), contains("too large"));
  CHECK_THAT(message(one_tensor({std::uint64_t{1} << 60}, 0, 4)), contains("the file ends at"));
  CHECK_THAT(message(one_tensor({33}, 8, 68)), contains("no whole number of blocks of 32"));
  CHECK_THAT(message(one_tensor({16, 2}, 8, 34)), contains("no whole number of blocks of 32"));
  CHECK(message(one_tensor({32}, 8, 34)) == "accepted");
  CHECK(message(one_tensor({256}, 10, 84)) == "accepted");
  GgufBytes names = one_tensor({1}, 0, 36);
  CHECK_THAT(message(names.tensor("w", {1}, 0, 32)), contains("tensor \"w\" is there twice"));
  GgufBytes empty, long_name, longest;
  empty.data = long_name.data = longest.data = "1234";
  CHECK_THAT(message(empty.tensor("", {1}, 0, 0)), contains("name has 0 bytes"));
  CHECK_THAT(message(long_name.tensor(std::string(64, 'n'), {1}, 0, 0)), contains("name has 64 bytes"));
  CHECK(message(longest.tensor(std::string(63, 'n'), {1}, 0, 0)) == "accepted");
}

TEST_CASE("types that are removed, never on disk or not read are refused by name", "[io][gguf]") {
  const std::pair<std::uint32_t, const char*> refused[] = {
      {4, "Q4_2"},     {5, "Q4_3"},     {9, "Q8_1"},   {15, "Q8_K"},    {16, "IQ2_XXS"}, {20, "IQ4_NL"}, {29, "IQ1_M"},
      {31, "removed"}, {33, "removed"}, {34, "TQ1_0"}, {36, "removed"}, {40, "NVFP4"},   {42, "Q2_0"}};
  for (const auto& [id, name] : refused)
    CHECK_THAT(message(one_tensor({256}, id, 1024)),
               contains(concat("type ", id)) && contains(name) && contains("convert"));
  for (const std::uint32_t id : {43u, 1000u, ~0u})
    CHECK_THAT(message(one_tensor({256}, id, 1024)), contains(concat("type ", id)));
}

TEST_CASE("data must lie one after the other inside the file", "[io][gguf]") {
  const auto two = [](std::uint64_t second, std::size_t bytes) {
    GgufBytes file;
    file.tensor("a", {3}, 0, 0).tensor("b", {2}, 1, second);
    file.data = std::string(bytes, 'x');
    return file;
  };
  CHECK(message(two(32, 36)) == "accepted");  // without the padding of the last one
  CHECK(message(two(32, 64)) == "accepted");
  for (const std::uint64_t offset : {0u, 12u, 31u, 64u})
    CHECK_THAT(message(two(offset, 64)), contains("tensor \"b\"") && contains("put it at 32"));
  CHECK_THAT(message(two(~std::uint64_t{0}, 64)), contains("put it at 32"));
  CHECK_THAT(message(two(32, 35)), contains("the file ends at"));
  CHECK_THAT(message(two(32, 65)), contains("bytes follow"));
  GgufBytes header = two(32, 0);
  CHECK_THAT(message(header), contains("the file ends at"));
}

TEST_CASE("the alignment is a power of two, stored as u32", "[io][gguf]") {
  const auto with = [](std::uint32_t kind, const std::string& value, std::size_t alignment) {
    GgufBytes file;
    file.alignment = alignment;
    file.pair("general.alignment", kind, value).tensor("a", {3}, 0, 0).tensor("b", {2}, 0, alignment);
    file.data = std::string(alignment + 8, 'x');
    return file;
  };
  CHECK(message(with(u32, le(64u), 64)) == "accepted");
  CHECK(message(with(u32, le(16u), 16)) == "accepted");
  CHECK_THAT(message(with(u32, le(0u), 32)), contains("not a power of two"));
  CHECK_THAT(message(with(u32, le(48u), 48)), contains("not a power of two"));
  CHECK_THAT(message(with(10, le(std::uint64_t{64}), 64)), contains("general.alignment") && contains("u32 is needed"));
  CHECK_THAT(message(with(u32, le(0x80000000u), 32)), contains("from byte 2147483648, the file ends at"));
}

TEST_CASE("every cut of a valid GGUF file is refused", "[io][gguf]") {
  const std::string bytes = hex(small_file);
  for (std::size_t n = 0; n < 292; ++n) {  // 292: the end of the last tensor's data
    INFO(n);
    CHECK(message(bytes.substr(0, n)) != "accepted");
  }
  CHECK(message(bytes.substr(0, 292)) == "accepted");
  CHECK(message(bytes + "x") != "accepted");
}
