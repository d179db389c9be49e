// SPDX-License-Identifier: Apache-2.0
// Checkpoints of one file and of several: index, shards, warnings, refusals. And the writer.
#include "kdlib/io/json.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "support.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using kdlib_tests::bytes_of;
using kdlib_tests::hex;
using kdlib_tests::TemporaryDirectory;

namespace {
/// Writes a file of one-element F32 tensors with these names; the value is the number of letters in the name.
void write_floats(const std::string& path, const std::vector<std::string>& names) {
  std::vector<float> values;
  for (const std::string& name : names) values.push_back(static_cast<float>(name.size()));
  SafetensorsWriter writer{path};
  for (std::size_t i = 0; i < names.size(); ++i) writer.add(names[i], {1}, std::span<const float>(&values[i], 1));
  writer.commit();
}
void write_index(const TemporaryDirectory& dir, const std::string& weight_map,
                 const std::string& metadata = R"({"total_size":12})") {
  write_file_atomically(dir / "model.safetensors.index.json",
                        "{\"metadata\":" + metadata + ",\"weight_map\":" + weight_map + "}");
}
const char* const first = "model-00001-of-00002.safetensors";
const char* const second = "model-00002-of-00002.safetensors";
const std::string good_map = concat(R"({"a":")", first, R"(","bb":")", second, R"(","ccc":")", first, "\"}");
void write_shards(const TemporaryDirectory& dir) {
  write_floats(dir / first, {"a", "ccc"});
  write_floats(dir / second, {"bb"});
}
}  // namespace

TEST_CASE("a sharded checkpoint reads as one set of tensors", "[io][safetensors]") {
  const TemporaryDirectory dir;
  write_shards(dir);
  write_index(dir, good_map);
  for (const std::string& path : {dir.path(), dir / "model.safetensors.index.json"}) {
    SafetensorsDirectory all{path};
    const SafetensorsDirectory moved = std::move(all);
    REQUIRE(moved.tensors().size() == 3);
    CHECK(moved.tensors()[1]->name == "bb");
    CHECK(read_as<float>(moved.at("ccc")) == std::vector<float>{3});
    CHECK(read_as<float>(moved.at("bb")) == std::vector<float>{2});
    CHECK(moved.find("d") == nullptr);
    CHECK_THROWS_WITH(moved.at("d"), contains("\"d\" is missing"));
    CHECK(moved.files().size() == 2);
    CHECK(moved.warnings().empty());
  }
}

TEST_CASE("the single file is preferred to an index, with a warning", "[io][safetensors]") {
  const TemporaryDirectory dir;
  write_shards(dir);
  write_index(dir, good_map);
  write_floats(dir / "model.safetensors", {"only"});
  const SafetensorsDirectory all{dir.path()};
  CHECK(all.tensors().size() == 1);
  REQUIRE(all.warnings().size() == 1);
  CHECK_THAT(all.warnings()[0], contains("single file"));
  CHECK(SafetensorsDirectory{dir / first}.tensors().size() == 2);
}

TEST_CASE("what an index leaves out or miscounts is a warning", "[io][safetensors]") {
  const TemporaryDirectory dir;
  write_shards(dir);
  write_index(dir, concat(R"({"a":")", first, R"(","bb":")", second, "\"}"),
              R"({"total_size":13,"total_parameters":3})");
  const SafetensorsDirectory all{dir.path()};
  REQUIRE(all.warnings().size() == 2);
  CHECK_THAT(all.warnings()[0], contains("\"ccc\" is not listed"));
  CHECK_THAT(all.warnings()[1], contains("total_size is not 12"));
  CHECK(all.tensors().size() == 3);
  write_index(dir, good_map, "null");
  CHECK(SafetensorsDirectory{dir.path()}.warnings().empty());
}

TEST_CASE("an index that its shards do not keep is refused", "[io][safetensors]") {
  const TemporaryDirectory dir;
  write_shards(dir);
  write_index(dir, concat(R"({"a":")", second, "\"}"));
  CHECK_THROWS_WITH(SafetensorsDirectory{dir.path()}, contains("tensor \"a\" is not in") && contains(second));
  write_index(dir, R"({"a":"model-00003-of-00003.safetensors"})");
  CHECK_THROWS_AS(SafetensorsDirectory{dir.path()}, IoError);
  write_floats(dir / second, {"bb", "ccc"});
  write_index(dir, good_map);
  CHECK_THROWS_WITH(SafetensorsDirectory{dir.path()},
                    contains("\"ccc\" is in two shards") && contains(first) && contains(second));
}

TEST_CASE("an index cannot name files outside its folder", "[io][safetensors]") {
  const TemporaryDirectory dir;
  make_directories(dir / "model");
  write_floats(dir / "x.safetensors", {"a"});
  for (const std::string& name : std::vector<std::string>{"../x.safetensors", dir / "x.safetensors", "a\\\\b", "..", "",
                                                          "a..b", "a/b", "x\\u0000y"}) {
    INFO(name);
    write_file_atomically(dir / "model/model.safetensors.index.json", "{\"weight_map\":{\"a\":\"" + name + "\"}}");
    CHECK_THROWS_WITH(SafetensorsDirectory{dir / "model"}, contains("weight_map.a") && contains("beside the index"));
  }
}

TEST_CASE("folders without weights say what is missing", "[io][safetensors]") {
  const TemporaryDirectory dir;
  CHECK_THROWS_AS(SafetensorsDirectory{dir.path()}, IoError);
  CHECK_THROWS_WITH(SafetensorsDirectory{dir.path()}, contains("neither model.safetensors nor"));
  write_file_atomically(dir / "pytorch_model.bin", "x");
  CHECK_THROWS_WITH(SafetensorsDirectory{dir.path()}, contains("pytorch_model.bin is not read"));
  CHECK_THROWS_AS(SafetensorsDirectory{dir / "none"}, IoError);
  write_file_atomically(dir / "model.safetensors.index.json", "{}");
  CHECK_THROWS_WITH(SafetensorsDirectory{dir.path()}, contains("weight_map is missing"));
}

TEST_CASE("the writer makes the format's vectors byte by byte", "[io][safetensors]") {
  const TemporaryDirectory dir;
  const std::vector<float> six{0, 1, 2, 3, 4, 5};
  SafetensorsWriter writer{dir / "v1"};
  writer.add<float>("attn.0", {1, 2, 3}, six);
  writer.commit();
  CHECK(read_file(dir / "v1") == hex("40 00 00 00 00 00 00 00") +
                                     R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})" +
                                     hex("00000000 0000803F 00000040 00004040 00008040 0000A040"));
  SafetensorsWriter packed{dir / "v12"};
  const std::string zero(1, '\0');
  packed.add("attn.0", DType::f4, {1, 2}, bytes_of(zero));
  packed.commit();
  CHECK(read_file(dir / "v12") ==
        hex("40 00 00 00 00 00 00 00") + R"({"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    )" + zero);
  SafetensorsWriter empty{dir / "v2"};
  empty.commit();
  CHECK(read_file(dir / "v2") == hex("08 00 00 00 00 00 00 00") + "{}      ");
}

TEST_CASE("the writer sorts by type, then name, and puts metadata first", "[io][safetensors]") {
  const TemporaryDirectory dir;
  const std::vector<float> f{1};
  const std::vector<double> d{2};
  const std::vector<std::uint8_t> u{3};
  const std::vector<bf16> b{bf16(4.0f)};
  SafetensorsWriter writer{dir / "m"};
  writer.add<std::uint8_t>("a", {1}, u);
  writer.add<float>("z", {}, f);
  writer.add<bf16>("b", {1}, b);
  writer.add<float>("B", {1}, f);
  writer.add<double>("q", {1}, d);
  writer.metadata("format", "pt");
  writer.metadata("note", "a \"quoted\" \xC3\xA9");
  writer.commit();
  const std::string file = read_file(dir / "m");
  CHECK_THAT(file, contains(R"({"__metadata__":{"format":"pt","note":"a \"quoted\" é"},)"
                            R"("q":{"dtype":"F64","shape":[1],)"
                            R"("data_offsets":[0,8]},)"
                            R"("B":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"z":{"dtype":"F32","shape":[],)"
                            R"("data_offsets":[12,16]},)"
                            R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]},"a":{"dtype":"U8","shape":[1],)"
                            R"("data_offsets":[18,19]}})"));
  CHECK(static_cast<unsigned char>(file[0]) % 8 == 0);
  const SafetensorsFile read{dir / "m"};
  CHECK(read_as<double>(read.at("q")) == std::vector<double>{2});
  CHECK(read_as<float>(read.at("b")) == std::vector<float>{4});
  CHECK(read.metadata("note") == "a \"quoted\" \xC3\xA9");
}

TEST_CASE("values are converted while they are written, in pieces", "[io][safetensors]") {
  const TemporaryDirectory dir;
  std::vector<float> values(200'001);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.37f - 1000.0f;
  SafetensorsWriter writer{dir / "m"};
  writer.add_as<bf16>("b", {200'001}, std::span<const float>(values));
  writer.add_as<double>("d", {3, 66'667}, std::span<const float>(values));
  writer.add_from("g", DType::u8, {2, 300'000}, [](AtomicFile& file) {
    const std::string piece(100'000, 'g');
    for (int i = 0; i < 6; ++i) file.write(piece);
  });
  writer.commit();
  const SafetensorsFile read{dir / "m"};
  const std::vector<float> b = read_as<float>(read.at("b")), d = read_as<float>(read.at("d"));
  CHECK((d == values));
  bool equal = true;
  for (std::size_t i = 0; i < values.size(); ++i) equal = equal && b[i] == static_cast<float>(bf16(values[i]));
  CHECK(equal);
  CHECK(read_as<std::uint8_t>(read.at("g"))[599'999] == 'g');
  SafetensorsWriter copy{dir / "copy"};
  for (const TensorInfo& tensor : read.tensors()) copy.add(tensor);
  copy.commit();
  CHECK((read_file(dir / "copy") == read_file(dir / "m")));
}

TEST_CASE("the writer refuses what does not fit, and leaves no file", "[io][safetensors]") {
  const TemporaryDirectory dir;
  const std::vector<float> f{1, 2};
  SafetensorsWriter writer{dir / "m"};
  CHECK_THROWS_AS(writer.add<float>("x", {3}, f), ShapeError);
  CHECK_THROWS_AS(writer.add_as<bf16>("x", {3}, std::span<const float>(f)), ShapeError);
  CHECK_THROWS_AS(writer.add<float>("__metadata__", {2}, f), FormatError);
  CHECK_THROWS_AS(writer.add("x", DType::f4, {3}, bytes_of(std::string("ab"))), ShapeError);
  writer.add<float>("x", {2}, f);
  writer.metadata("format", "pt");
  CHECK_THROWS_AS(writer.metadata("format", "np"), FormatError);
  writer.add<float>("x", {2}, f);
  CHECK_THROWS_WITH(writer.commit(), contains("\"x\" is given twice"));
  SafetensorsWriter invalid{dir / "m"};
  invalid.add<float>("x\xFF", {2}, f);
  CHECK_THROWS_AS(invalid.commit(), FormatError);
  SafetensorsWriter few{dir / "m"};
  few.add_from("x", DType::f32, {2}, [](AtomicFile& file) { file.write("abcd"); });
  CHECK_THROWS_WITH(few.commit(), contains("needs 8 bytes, 4 were written"));
  CHECK(list_directory(dir.path()).empty());
}

TEST_CASE("files of other writers are read", "[io][safetensors][reference]") {
  const SafetensorsFile file{kdlib_tests::reference_file("io/mixed_32.safetensors")};
  CHECK(file.at("matrix.int64").dtype == DType::i64);
  CHECK(file.at("cube.f32").shape() == Shape{2, 3, 4});
  const auto shared = kdlib_tests::shared_file("reference/models/llama/model.safetensors");
  if (!shared) KDLIB_SKIP("reference/models/llama is not here (set KDLIB_SHARED_DIR)");
  CHECK(SafetensorsFile{*shared}.at("model.embed_tokens.weight").shape() == Shape{320, 64});
}

TEST_CASE("a file of another writer, written again in its order, keeps its bytes", "[io][safetensors][reference]") {
  const auto shared = kdlib_tests::shared_file("reference/models/llama/model.safetensors");
  if (!shared) KDLIB_SKIP("reference/models/llama is not here (set KDLIB_SHARED_DIR)");
  const TemporaryDirectory dir;
  const SafetensorsFile file{*shared};
  SafetensorsWriter writer{dir / "again"};
  for (const auto& [key, value] : file.metadata()) writer.metadata(key, value);
  for (const TensorInfo& tensor : file.tensors()) writer.add(tensor);
  writer.commit();
  CHECK((read_file(dir / "again") == read_file(*shared)));
}
