// SPDX-License-Identifier: Apache-2.0
// Messages of errors: joined parts, and the class that was asked for.
#include "kdlib/core/error.hpp"

#include "kdlib/core/shape.hpp"
#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("a failure carries its parts as one text", "[core]") {
  REQUIRE_THROWS_WITH(fail<ShapeError>("[matmul] a is ", Shape{8, 64}, ", ", 64, " != ", 32),
                      "[matmul] a is [8, 64], 64 != 32");
  REQUIRE_THROWS_AS(fail<FormatError>("x"), FormatError);
  REQUIRE_THROWS_AS(fail<FormatError>("x"), Error);
}

TEST_CASE("a requirement that holds throws nothing", "[core]") {
  REQUIRE_NOTHROW(require<IoError>(true, "never"));
  REQUIRE_THROWS_AS(require<IoError>(false, "disk"), IoError);
}

TEST_CASE("text, characters, truth values and numbers join", "[core]") {
  CHECK(concat("a", 'b', std::string("c"), true, 7, -1) == "abctrue7-1");
  CHECK(std::string(Error("[x] \"\xe6\x97\xa5\xe6\x97\" and \xff").what()) ==
        "[x] \"\xe6\x97\xa5\\xE6\\x97\" and \\xFF");  // a character whole, one cut, a byte that is none
  CHECK(std::string(ShapeError(std::string("[y] a\tb")).what()) == "[y] a\tb");
  CHECK(concat("of ", std::string("\xc3\xa9")[0], '\n') == "of \\xC3\n");  // half a character is no text
}
