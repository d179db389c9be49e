// SPDX-License-Identifier: Apache-2.0
// Text is cut between characters.
#include "kdlib/core/utf8.hpp"

#include <string>

#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("whole_characters leaves no part of a character", "[core]") {
  const std::string text = "a\u00e9\u65e5\U0001F600";  // 1, 2, 3 and 4 bytes
  const std::size_t kept[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
  for (std::size_t most = 0; most < std::size(kept); ++most) {
    CAPTURE(most);
    CHECK(whole_characters(text, most) == text.substr(0, kept[most]));
  }
  CHECK(whole_characters("", 0).empty());
}
