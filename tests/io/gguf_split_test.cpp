// SPDX-License-Identifier: Apache-2.0
// Split GGUF files: any part opens the whole; missing, doubled and foreign parts are named.
#include <algorithm>

#include "kdlib/io/gguf_split.hpp"

#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "support.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

namespace {

struct Part {
  std::string path;
  std::uint32_t no = 0, count = 3, all_tensors = 3;
  std::string tensor;
  std::string name = "a model";
};

void write(const Part& part) {
  GgufWriter writer(part.path);
  if (part.no == 0) writer.string("general.architecture", "llama");
  writer.string("general.name", part.name);
  writer.u32("split.no", part.no).u32("split.count", part.count).u32("split.tensors.count", part.all_tensors);
  const float values[2] = {static_cast<float>(part.no), 1};
  if (!part.tensor.empty()) writer.add(part.tensor, GgufType::f32, Shape{2}, std::as_bytes(std::span(values)));
  writer.commit();
}

/// Three good parts m-0000?-of-00003.gguf.
struct Parts {
  TemporaryDirectory dir;
  std::string path(std::int64_t number) const { return GgufPartName{dir / "m", 1, 3}.path_of(number); }
  Part part(std::uint32_t number) const { return {path(number), number - 1, 3, 3, concat("t", number)}; }
  Parts() {
    for (std::uint32_t i = 1; i <= 3; ++i) write(part(i));
  }
  std::string refusal(std::int64_t opened) const {
    try {
      const GgufFile file(path(opened));
    } catch (const FormatError& error) {
      return error.what();
    }
    return "accepted";
  }
};

}  // namespace

TEST_CASE("the name of a part gives the names of all parts", "[io][gguf]") {
  const auto name = gguf_part_name("folder/x-00002-of-00013.gguf");
  REQUIRE(name.has_value());
  CHECK(name->prefix == "folder/x");
  CHECK(name->number == 2);
  CHECK(name->count == 13);
  CHECK(name->path_of(7) == "folder/x-00007-of-00013.gguf");
  const auto paths = gguf_part_paths("x-00002-of-00002.gguf");
  CHECK(paths == std::vector<std::string>{"x-00001-of-00002.gguf", "x-00002-of-00002.gguf"});
  for (const char* other :
       {"", "x.gguf", "x-00000-of-00002.gguf", "x-00003-of-00002.gguf", "x-0001-of-0002.gguf", "x-00001-of-00002.ggu",
        "x-0000a-of-00002.gguf", "x 00001-of-00002.gguf", "x-00001-or-00002.gguf", "x-00001-of-00002.gguf.partial"})
    CHECK_FALSE(gguf_part_name(other).has_value());
}

TEST_CASE("every part of a split GGUF file opens the whole", "[io][gguf]") {
  const Parts parts;
  for (std::int64_t opened = 1; opened <= 3; ++opened) {
    GgufFile moved(parts.path(opened));
    const GgufFile file = std::move(moved);
    CHECK(file.path() == parts.path(1));
    CHECK(file.paths() == std::vector<std::string>{parts.path(1), parts.path(2), parts.path(3)});
    CHECK(file.at("general.architecture").as_string() == "llama");
    REQUIRE(file.tensors().size() == 3);
    for (std::int64_t i = 1; i <= 3; ++i) {
      const GgufTensor& t = file.tensor(concat("t", i));
      CHECK(file.path_of(t) == parts.path(i));
      float first = -1;
      std::memcpy(&first, t.data.data(), sizeof first);
      CHECK(first == static_cast<float>(i - 1));
    }
  }
}

TEST_CASE("parts that the Python package gguf wrote hold the tensors of the whole file", "[io][gguf]") {
  const GgufFile whole(kdlib_tests::reference_file("gguf/golden_llama.gguf")),
      split(kdlib_tests::reference_file("gguf/split_llama-00002-of-00003.gguf"));
  CHECK(split.paths().size() == 3);
  REQUIRE(split.tensors().size() == whole.tensors().size());
  for (const GgufTensor& t : whole.tensors()) {
    const GgufTensor& other = split.tensor(t.name);
    CHECK(other.shape == t.shape);
    CHECK(std::ranges::equal(other.data, t.data));
  }
}

TEST_CASE("missing, doubled and foreign parts of a split GGUF file are named", "[io][gguf]") {
  Parts parts;
  const auto named = [&](std::int64_t i) { return contains(parts.path(i)); };
  SECTION("missing") {
    remove_tree(parts.path(2));
    CHECK_THAT(parts.refusal(1), named(2) && contains("is missing"));
    remove_tree(parts.path(1));
    CHECK_THAT(parts.refusal(3), named(1) && contains("and 1 more are missing"));
  }
  SECTION("one part twice") {
    write_file_atomically(parts.path(2), read_file(parts.path(1)));
    for (const std::int64_t opened : {1, 2, 3})
      CHECK_THAT(parts.refusal(opened), named(2) && contains("split.no is 0, part 2 has 1"));
  }
  SECTION("a part of a model with another number of parts") {
    Part foreign = parts.part(3);
    foreign.count = 4;
    write(foreign);
    for (const std::int64_t opened : {1, 3})
      CHECK_THAT(parts.refusal(opened), named(3) && contains("split.count is 4, the name says 3"));
  }
  SECTION("a file that is no part") {
    GgufWriter writer(parts.path(3));
    writer.string("general.name", "a model");
    writer.commit();
    CHECK_THAT(parts.refusal(1), named(3) && contains("split.count is 1"));
  }
  SECTION("a part of a model with other keys") {
    Part foreign = parts.part(2);
    foreign.name = "another";
    write(foreign);
    CHECK_THAT(parts.refusal(1), named(2) && contains("\"general.name\" has another value") && named(1));
  }
  SECTION("a part of a model with another number of tensors") {
    Part foreign = parts.part(2);
    foreign.all_tensors = 9;
    write(foreign);
    CHECK_THAT(parts.refusal(2), named(2) && contains("\"split.tensors.count\" has another value"));
  }
  SECTION("a tensor twice") {
    Part foreign = parts.part(3);
    foreign.tensor = "t1";
    write(foreign);
    CHECK_THAT(parts.refusal(2), contains("tensor \"t1\" is also in the part") && named(1) && named(3));
  }
  SECTION("too few tensors") {
    Part without = parts.part(2);
    without.tensor.clear();
    write(without);
    CHECK_THAT(parts.refusal(2), contains("split.tensors.count is 3, the 3 parts hold 2 tensors"));
  }
  SECTION("a damaged part") {
    const std::string bytes = read_file(parts.path(3));
    for (const std::size_t n : {std::size_t{4}, bytes.size() / 2, bytes.size() - 30}) {
      write_file_atomically(parts.path(3), bytes.substr(0, n));
      CHECK_THAT(parts.refusal(1), named(3) && contains("byte "));
    }
  }
}

TEST_CASE("a split GGUF file under a name that is not that of a part is refused with the name it needs", "[io][gguf]") {
  const TemporaryDirectory dir;
  Part part;
  part.path = dir / "whole.gguf";
  write(part);
  CHECK_THROWS_WITH(GgufFile(part.path), contains("split.count is 3") && contains("NAME-00001-of-0000N.gguf"));
  part.path = dir / "m-00001-of-00003.gguf";
  part.count = 65535;
  write(part);
  CHECK_THROWS_WITH(GgufFile(part.path), contains("split.count is 65535, the name says 3"));
  part.path = dir / "m-00001-of-65535.gguf";  // 65535 names are looked for, no file is opened
  write(part);
  CHECK_THROWS_WITH(GgufFile(part.path), contains("m-00002-of-65535.gguf and 65533 more are missing"));
  part.path = dir / "m-00001-of-00001.gguf";
  part.count = 1;
  write(part);
  CHECK(GgufFile(part.path).paths().size() == 1);
}

TEST_CASE("the content of a split GGUF file is that of all its parts", "[io][gguf]") {
  Parts parts;
  const std::string before = content_hash(parts.path(1));
  CHECK(content_hash(parts.path(3)) == before);
  Part other = parts.part(2);
  other.tensor = "u";
  write(other);
  CHECK(content_hash(parts.path(1)) != before);
}
