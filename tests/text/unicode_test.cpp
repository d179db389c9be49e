// SPDX-License-Identifier: Apache-2.0
// UTF-8 repair, character classes and normalisation form C.
#include "kdlib/text/nfc.hpp"

#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("classes are those of the general categories", "[text]") {
  CHECK(unicode_class(U'A') == UnicodeClass::upper);
  CHECK(unicode_class(U'\u01C5') == UnicodeClass::upper);  // Lt
  CHECK(unicode_class(U'\u00DF') == UnicodeClass::lower);
  CHECK(unicode_class(U'\u02B0') == UnicodeClass::letter);  // Lm
  CHECK(unicode_class(U'\u65E5') == UnicodeClass::letter);  // Lo
  CHECK(unicode_class(U'\u0301') == UnicodeClass::mark);    // Mn
  CHECK(unicode_class(U'\u0903') == UnicodeClass::mark);    // Mc
  CHECK(unicode_class(U'7') == UnicodeClass::number);
  CHECK(unicode_class(U'\u2167') == UnicodeClass::number);  // Nl
  CHECK(unicode_class(U'\u00BD') == UnicodeClass::number);  // No
  CHECK(unicode_class(U'_') == UnicodeClass::other);
  CHECK(unicode_class(U'\U0001F600') == UnicodeClass::other);
  CHECK(unicode_class(U'\U00020000') == UnicodeClass::letter);
  CHECK(unicode_class(char32_t{0x10FFFF}) == UnicodeClass::other);
  CHECK(unicode_class(char32_t{0x110000}) == UnicodeClass::other);
}

TEST_CASE("white space is exactly Unicode's White_Space", "[text]") {
  std::vector<char32_t> found;
  for (char32_t c = 0; c < 0x110000; ++c)
    if (unicode_class(c) == UnicodeClass::space) found.push_back(c);
  const std::vector<char32_t> expected = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x20,   0x85,   0xA0,   0x1680,
                                          0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
                                          0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
  CHECK(found == expected);
}

TEST_CASE("each maximal invalid part becomes one replacement character", "[text]") {
  const std::string bad = "\xEF\xBF\xBD";
  CHECK(replace_invalid_utf8("plain ASCII and caf\xC3\xA9") == "plain ASCII and caf\xC3\xA9");
  CHECK(replace_invalid_utf8("\x80") == bad);
  CHECK(replace_invalid_utf8("\xC0\xAF") == bad + bad);            // overlong: both bytes alone
  CHECK(replace_invalid_utf8("\xE0\x80\x80") == bad + bad + bad);  // overlong of three bytes
  CHECK(replace_invalid_utf8("\xED\xA0\x80") == bad + bad + bad);  // a surrogate
  CHECK(replace_invalid_utf8("\xF0\x9F\x98") == bad);              // cut at the end: one part
  CHECK(replace_invalid_utf8("\xF0\x9F\x98"
                             "a") == bad + "a");                             // cut by another character
  CHECK(replace_invalid_utf8("\xF4\x90\x80\x80") == bad + bad + bad + bad);  // above U+10FFFF
  CHECK(replace_invalid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") ==
        bad + bad + bad + bad + "A");  // Unicode 14, table 3-8
}

TEST_CASE("NFC leaves composed text alone and says so", "[text]") {
  CHECK(is_surely_nfc("all ASCII"));
  CHECK(is_surely_nfc("caf\u00e9 na\u00efve \u0416 \u65e5\u672c \ud55c\uae00 \U0001F600"));
  CHECK_FALSE(is_surely_nfc("e\u0301"));
  CHECK_FALSE(is_surely_nfc("\u212B"));
  CHECK(nfc("") == "");
}

TEST_CASE("NFC composes, orders and decomposes as Unicode says", "[text]") {
  // Pairs from Unicode Standard Annex 15 and from the composition rules; each is checked in the middle of other text
  // too.
  const std::pair<const char*, const char*> cases[] = {
      {"e\u0301", "\u00e9"},
      {"\u212B", "\u00C5"},  // singleton
      {"\u2126", "\u03A9"},
      {"q\u0307\u0323", "q\u0323\u0307"},  // ordering only
      {"d\u0307\u0323", "\u1E0D\u0307"},   // ordering, then composition
      {"\u1E0B\u0323", "\u1E0D\u0307"},    // decomposition, ordering, composition
      {"s\u0323\u0307", "\u1E69"},         // two compositions
      {"a\u0301\u0301", "\u00E1\u0301"},   // the second is blocked by the same class
      {"\u0915\u093C", "\u0915\u093C"},    // composition exclusion: stays apart
      {"\u0958", "\u0915\u093C"},          // excluded composite: taken apart
      {"\u1112\u1161\u11AB", "\ud55c"},    // Hangul
      {"\ud558\u11AB", "\ud55c"},
      {"\u1100\u1161\u11A7", "\uac00\u11A7"},  // U+11A7 is no trailing consonant
      {"\uF900", "\u8C48"},                    // compatibility ideograph
      {"\U00011099\U000110BA", "\U0001109A"},  // beyond U+FFFF
      {"\u0344", "\u0308\u0301"},              // a mark that falls apart for good
  };
  for (const auto& [text, expected] : cases) {
    CHECK(nfc(text) == expected);
    CHECK(nfc("x " + std::string(text) + "\u65e5 y") == "x " + std::string(expected) + "\u65e5 y");
    CHECK(nfc(expected) == expected);
  }
}
