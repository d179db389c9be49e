// SPDX-License-Identifier: Apache-2.0
// Lines of text files, JSON Lines.
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

namespace {
std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  LineReader reader{path};
  while (const auto line = reader.next()) lines.emplace_back(*line);
  CHECK(reader.line_number() == lines.size());
  return lines;
}
}  // namespace

TEST_CASE("lines end with LF, CRLF or the file", "[io][jsonl]") {
  const TemporaryDirectory dir;
  using Lines = std::vector<std::string>;
  const auto lines = [&](std::string_view text) {
    write_file_atomically(dir / "t", text);
    return lines_of(dir / "t");
  };
  CHECK(lines("") == Lines{});
  CHECK(lines("a") == Lines{"a"});
  CHECK(lines("a\n") == Lines{"a"});
  CHECK(lines("\n") == Lines{""});
  CHECK(lines("a\r\n\r\nb\n\nc") == Lines{"a", "", "b", "", "c"});
}

TEST_CASE("lines across the pieces of a large file are whole, with their numbers and offsets", "[io][jsonl]") {
  const TemporaryDirectory dir;
  std::string text;
  std::vector<std::uint64_t> offsets;
  for (std::size_t i = 0; i < 3000; ++i) {
    offsets.push_back(text.size());
    text += std::to_string(i) + std::string(i % 700, 'x') + "\n";
  }
  write_file_atomically(dir / "t", text);
  LineReader reader{dir / "t"};
  for (std::size_t i = 0; i < 3000; ++i) {
    const auto line = reader.next();
    REQUIRE(line);
    REQUIRE(*line == std::to_string(i) + std::string(i % 700, 'x'));
    REQUIRE(reader.line_number() == i + 1);
    REQUIRE(reader.line_offset() == offsets[i]);
  }
  CHECK_FALSE(reader.next());
}

TEST_CASE("a line above the limit is refused with file and line, in bounded memory", "[io][jsonl]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "t",
                        "short\n" + std::string(2'000'000, 'x') + "\nbehind\n" + std::string(2'000'000, 'x'));
  LineReader reader{dir / "t", 1000};
  CHECK(reader.next() == "short");
  CHECK_THROWS_AS(reader.next(), FormatError);
  CHECK(reader.next() == "behind");
  CHECK(reader.line_number() == 3);
  CHECK(reader.line_offset() == 2'000'007);
  CHECK_THROWS_AS(reader.next(), FormatError);
  CHECK_FALSE(reader.next());
  write_file_atomically(dir / "u", "12345\n123456\n");
  LineReader exact{dir / "u", 5};
  CHECK(exact.next() == "12345");
  CHECK_THROWS_WITH(exact.next(), contains("u:2") && contains("longer than 5"));
  CHECK_FALSE(exact.next());
}

TEST_CASE("JSON Lines give their values; blank lines are skipped, broken ones named", "[io][jsonl]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "p.jsonl", "{\"a\":1}\n\n  \t\r\n[2]\r\n{\"a\":}\n3");
  JsonlReader reader{dir / "p.jsonl"};
  CHECK(reader.next()->at("a").as_int() == 1);
  CHECK((*reader.next())[0].as_int() == 2);
  CHECK(reader.place() == (dir / "p.jsonl") + ":4");
  CHECK_THROWS_WITH(reader.next(), contains("p.jsonl:5: byte 5"));
  const auto last = reader.next();
  CHECK(last->as_int() == 3);
  CHECK_THROWS_WITH(last->as_string(), contains("p.jsonl:6: the document is an integer"));
  CHECK_FALSE(reader.next());
  CHECK_FALSE(reader.next());
}

TEST_CASE("two values on one line are refused", "[io][jsonl]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "p", "{} {}\n");
  CHECK_THROWS_AS(JsonlReader{dir / "p"}.next(), FormatError);
  CHECK_THROWS_AS(JsonlReader{dir / "none"}, IoError);
  CHECK_THROWS_AS(JsonlReader{dir.path()}, IoError);
}
