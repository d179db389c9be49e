// SPDX-License-Identifier: Apache-2.0
// JSON values, the writer, UTF-8.
#include <cmath>
#include <limits>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;

namespace {
Json parse(const std::string& text) { return Json::parse(text, "t.json"); }
}  // namespace

TEST_CASE("every kind of JSON value is told apart and read", "[io][json]") {
  const Json j = parse(
      R"( {"n":null,"t":true,"f":false,"i":-7,"u":18446744073709551615,"d":2.5e3,"s":"a\u0000\u00e9\ud83d\ude00",)"
      R"("a":[1,[2]],"o":{}} )");
  CHECK(j.is_object());
  CHECK(j.size() == 9);
  CHECK(j.at("n").is_null());
  CHECK(j.at("t").as_bool());
  CHECK_FALSE(j.at("f").as_bool());
  CHECK(j.at("i").as_int() == -7);
  CHECK(j.at("i").as_double() == -7.0);
  CHECK(j.at("u").kind() == Json::Kind::uint64);
  CHECK(j.at("u").as_uint() == std::numeric_limits<std::uint64_t>::max());
  CHECK(j.at("d").kind() == Json::Kind::real);
  CHECK(j.at("d").as_double() == 2500.0);
  CHECK(j.at("s").as_string() == std::string_view("a\0\xC3\xA9\xF0\x9F\x98\x80", 8));
  CHECK(j.at("a")[1][0].as_uint() == 2);
  CHECK(j.at("o").size() == 0);
  CHECK(parse("-9223372036854775808").as_int() == std::numeric_limits<std::int64_t>::min());
  CHECK(parse("9223372036854775808").kind() == Json::Kind::uint64);
  CHECK(parse("18446744073709551616").kind() == Json::Kind::real);
  CHECK(parse("0.1").as_double() == 0.1);
  CHECK(parse("1.7976931348623157e308").as_double() == std::numeric_limits<double>::max());
  CHECK(parse("4.9406564584124654e-324").as_double() == std::numeric_limits<double>::denorm_min());
  CHECK(Json().is_null());
  CHECK(Json().size() == 0);
}

TEST_CASE("numbers read as the nearest double, tiny ones as zero, huge ones not at all", "[io][json]") {
  CHECK(parse("0e308").as_double() == 0.0);
  CHECK(parse("0.0E-400").as_double() == 0.0);
  CHECK(parse("1E+2").as_double() == 100.0);
  CHECK(parse("123456789012345678901234567890").as_double() == 123456789012345678901234567890.0);
  CHECK(parse("-123456789012345678901234567890").as_double() == -123456789012345678901234567890.0);
  CHECK(parse("0.1000000000000000055511151231257827021181583404541015625").as_double() == 0.1);
  CHECK(parse("1e-400").as_double() == 0.0);
  CHECK(std::signbit(parse("-1e-400").as_double()));
  CHECK(parse("0." + std::string(400, '0') + "1").as_double() == 0.0);
  CHECK(parse("1e-99999999999999").as_double() == 0.0);
  CHECK(parse("-9223372036854775809").kind() == Json::Kind::real);
  for (const char* text : {"1e309", "-1e309", "1.8e308", "1e99999999999999", "123456789e301"})
    CHECK_THROWS_AS(parse(text), FormatError);
  CHECK_THROWS_WITH(parse(std::string(400, '9')), contains("byte 0"));
}

TEST_CASE("members keep their order and are found in small and large objects", "[io][json]") {
  for (const int n : {0, 1, 8, 9, 1000}) {
    std::string text = "{";
    for (int i = 0; i < n; ++i) text += concat(i == 0 ? "" : ",", "\"key", i * 7919 % 100003, "\":", i);
    const Json j = parse(text + "}");
    REQUIRE(j.size() == static_cast<std::size_t>(n));
    int i = 0;
    for (const auto& [key, value] : j.members()) {
      CHECK(key == concat("key", i * 7919 % 100003));
      CHECK(value.as_int() == i);
      REQUIRE(j.find(key));
      CHECK(j.find(key)->as_int() == i);
      ++i;
    }
    CHECK(i == n);
    CHECK_FALSE(j.find("key"));
    CHECK_FALSE(j.find("zzz"));
    CHECK_FALSE(j.find(""));
  }
}

TEST_CASE("iterating gives the elements of an array and the values of an object", "[io][json]") {
  std::int64_t sum = 0;
  for (const Json& x : parse("[1,2,[],4]"))
    if (x.is_number()) sum = sum * 10 + x.as_int();
  CHECK(sum == 124);
  for (const Json& x : parse(R"({"a":5,"b":6})")) sum = sum * 10 + x.as_int();
  CHECK(sum == 12456);
  for (const Json& x : parse("[]")) CHECK(x.is_null());
  for (const Json& x : parse("3")) CHECK(x.is_null());
}

TEST_CASE("a value outlives the handles it came from", "[io][json]") {
  Json inner;
  {
    const Json outer = parse(R"({"a":{"b":["text that is long enough to live on the heap"]}})");
    inner = outer.at("a").at("b")[0];
  }
  CHECK(inner.as_string() == "text that is long enough to live on the heap");
  CHECK(inner.path() == "t.json: a.b[0]");
}

TEST_CASE("defaults stand in for missing and null members, not for wrong kinds", "[io][json]") {
  const Json j = parse(R"({"i":3,"d":0.5,"b":true,"s":"x","n":null})");
  CHECK(j.int_or("i", 1) == 3);
  CHECK(j.int_or("n", 1) == 1);
  CHECK(j.int_or("none", 2) == 2);
  CHECK(j.double_or("d", 1) == 0.5);
  CHECK(j.double_or("i", 1) == 3);
  CHECK(j.bool_or("b", false));
  CHECK(j.string_or("s", "y") == "x");
  CHECK(j.string_or("n", "y") == "y");
  CHECK_FALSE(j.find_set("n"));
  CHECK(j.contains("n"));
  CHECK_THROWS_AS(j.int_or("d", 1), FormatError);
  CHECK_THROWS_AS(j.string_or("i", ""), FormatError);
}

TEST_CASE("a wrong kind is refused with the file and the way to the value", "[io][json]") {
  const Json j =
      parse(R"({"rope_scaling":{"factor":"8","layers":[{"kind":1},{"kind":-2}]},"big":18446744073709551615})");
  CHECK_THROWS_AS(j.at("rope_scaling").at("factor").as_double(), FormatError);
  CHECK_THROWS_WITH(j.at("rope_scaling").at("factor").as_double(),
                    contains("t.json: rope_scaling.factor is a string, a number is needed"));
  CHECK_THROWS_WITH(j.at("rope_scaling").at("layers")[1].at("kind").as_uint(),
                    contains("rope_scaling.layers[1].kind is -2"));
  CHECK_THROWS_WITH(j.at("rope_scaling").at("type"), contains("t.json: rope_scaling.type is missing"));
  CHECK_THROWS_WITH(j.at("type"), contains("t.json: type is missing"));
  CHECK_THROWS_WITH(j.at("big").as_int(), contains("big is 18446744073709551615"));
  CHECK_THROWS_WITH(j.at("rope_scaling").at("layers")[2], contains("has 2 elements"));
  CHECK_THROWS_WITH(j.as_string(), contains("the document is an object"));
  CHECK_THROWS_WITH(parse("1.5").as_int(), contains("is a number, an integer is needed"));
  CHECK_THROWS_WITH(parse("1").at("x"), contains("an object is needed"));
  CHECK_FALSE(parse("[1]").find("x"));
}

TEST_CASE("texts that are not JSON are refused with the byte", "[io][json]") {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse(text);
    } catch (const FormatError& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK_THAT(message(""), contains("t.json: byte 0"));
  CHECK_THAT(message("{"), contains("byte 1"));
  CHECK_THAT(message("{}x"), contains("byte 2"));
  CHECK_THAT(message(std::string("{}\0x", 4)), contains("byte 2"));
  CHECK_THAT(message(std::string("{}\0", 3)), contains("byte 2"));
  CHECK_THAT(message("[1,]"), contains("byte 3"));
  CHECK_THAT(message("{\"a\" 1}"), contains("byte 5"));
  for (const char* text : {"01", "1.", "-", "+1", "NaN", "[Infinity]", "1e999", "// c\n1", "'a'", "{a:1}", "tru",
                           "\"\n\"", "\"\\x\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\xEF\xBB\xBF{}"}) {
    INFO(text);
    CHECK_THAT(message(text), contains("t.json: byte"));
  }
  CHECK_THAT(message("[\"\xFF\"]"), contains("byte 2 is not valid UTF-8"));
  CHECK_THAT(message("\"\xED\xA0\x80\""), contains("byte 1 is not valid UTF-8"));
}

TEST_CASE("a key that occurs twice is refused in small and large objects", "[io][json]") {
  CHECK_THROWS_WITH(parse(R"({"a":1,"b":2,"a":3})"), contains("\"a\" occurs twice"));
  CHECK_THROWS_WITH(parse(R"({"a":1,"\u0061":3})"), contains("\"a\" occurs twice"));
  CHECK_NOTHROW(parse(R"([{"a":1},{"a":2}])"));
  std::string text = "{\"dup-key-0\":0";
  for (int i = 1; i < 100; ++i) text += concat(",\"dup-key-", i, "\":0");
  CHECK_NOTHROW(parse(text + "}"));
  CHECK_THROWS_WITH(parse(text + ",\"dup-key-57\":0}"), contains("\"dup-key-57\" occurs twice"));
}

TEST_CASE("nesting is capped, so that a hostile text cannot exhaust the stack", "[io][json]") {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK_NOTHROW(parse(nested(Json::max_depth)));
  CHECK_THROWS_WITH(parse(nested(Json::max_depth + 1)), contains("200 deep"));
  CHECK_THROWS_WITH(parse(std::string(5'000'000, '[')), contains("200 deep"));
}

TEST_CASE("the writer's texts read back to what was written", "[io][json]") {
  for (const int indent : {0, 2}) {
    JsonWriter w{JsonStyle{indent, NonFinite::refuse}};
    w.begin_object()
        .member("zero", 0.0)
        .member("minus", -0.0)
        .member("tenth", 0.1)
        .member("big", 1e300)
        .member("tiny", 5e-324)
        .member("float", 0.1f);
    w.member("max", std::numeric_limits<std::uint64_t>::max())
        .member("min", std::numeric_limits<std::int64_t>::min())
        .member("yes", true);
    w.member("text", "q\"\\/\n\t\x01\x7F\xC3\xA9")
        .member("list", std::vector<int>{1, 2})
        .key("none")
        .null()
        .key("o")
        .begin_object()
        .end_object();
    w.key("a")
        .begin_array()
        .value(1.0)
        .begin_array()
        .end_array()
        .end_array()
        .member("str", std::string("s"))
        .end_object();
    const Json j = parse(w.text());
    CHECK(j.at("zero").kind() == Json::Kind::real);
    CHECK(std::signbit(j.at("minus").as_double()));
    CHECK(j.at("tenth").as_double() == 0.1);
    CHECK(j.at("big").as_double() == 1e300);
    CHECK(j.at("tiny").as_double() == 5e-324);
    CHECK(j.at("float").as_double() == static_cast<double>(0.1f));
    CHECK(j.at("max").as_uint() == std::numeric_limits<std::uint64_t>::max());
    CHECK(j.at("min").as_int() == std::numeric_limits<std::int64_t>::min());
    CHECK(j.at("text").as_string() == "q\"\\/\n\t\x01\x7F\xC3\xA9");
    CHECK(j.at("list").size() == 2);
    CHECK(j.at("none").is_null());
    CHECK(j.at("a")[1].size() == 0);
    CHECK(j.at("str").as_string() == "s");
  }
}

TEST_CASE("the writer's forms are the usual ones", "[io][json]") {
  JsonWriter compact;
  compact.begin_object().member("a", 1).key("b").begin_array().value(1.5).value("x").end_array().end_object();
  CHECK(compact.text() == R"({"a":1,"b":[1.5,"x"]})");
  JsonWriter indented{JsonStyle{2, NonFinite::refuse}};
  indented.begin_object()
      .member("a", 1)
      .key("b")
      .begin_array()
      .value(1)
      .value(2)
      .end_array()
      .key("c")
      .begin_array()
      .end_array()
      .end_object();
  CHECK(indented.text() == "{\n  \"a\": 1,\n  \"b\": [\n    1,\n    2\n  ],\n  \"c\": []\n}\n");
}

TEST_CASE("the writer refuses what JSON cannot hold", "[io][json]") {
  JsonWriter w;
  w.begin_array();
  CHECK_THROWS_AS(w.value(std::nan("")), FormatError);
  CHECK_THROWS_AS(w.value(std::numeric_limits<float>::infinity()), FormatError);
  CHECK_THROWS_WITH(w.value("a\xFF"), contains("not valid UTF-8 at byte 1"));
  JsonWriter nulls{JsonStyle{0, NonFinite::null}};
  CHECK(nulls.begin_array().value(std::nan("")).value(1).end_array().text() == "[null,1]");
}

TEST_CASE("the writer refuses values, keys and brackets out of place", "[io][json]") {
  CHECK_THROWS_AS(JsonWriter().begin_object().value(1), FormatError);
  CHECK_THROWS_AS(JsonWriter().begin_array().key("a"), FormatError);
  CHECK_THROWS_AS(JsonWriter().begin_object().key("a").key("b"), FormatError);
  CHECK_THROWS_AS(JsonWriter().begin_object().key("a").end_object(), FormatError);
  CHECK_THROWS_AS(JsonWriter().begin_object().end_array(), FormatError);
  CHECK_THROWS_AS(JsonWriter().value(1).value(2), FormatError);
  CHECK_THROWS_AS(JsonWriter().begin_array().text(), FormatError);
  CHECK_THROWS_AS(JsonWriter().text(), FormatError);
}

TEST_CASE("invalid UTF-8 is found where it begins", "[io][utf8]") {
  constexpr std::size_t none = std::string_view::npos;
  CHECK(find_invalid_utf8("") == none);
  CHECK(find_invalid_utf8("plain text of more than eight bytes") == none);
  CHECK(find_invalid_utf8(
            "\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF") ==
        none);
  CHECK(find_invalid_utf8("12345678\x80") == 8);
  for (const char* bad :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xC2", "\xE1\x80", "\xF1\x80\x80", "\xC2\x41", "\xE1\x80\x41"}) {
    INFO(printable(bad));
    CHECK(find_invalid_utf8(std::string("ab") + bad) == 2);
  }
}

TEST_CASE("names from files are shown without control bytes and at bounded length", "[io][utf8]") {
  CHECK(printable("a\n\xFF\xC3\xA9") == "a\\x0A\\xFF\xC3\xA9");
  CHECK(printable(std::string(100'000, 'x')).size() < 100);
  CHECK(printable("\x1B[31m\x7F\xC2\x9B\xE2\x80\xAE\xE2\x81\xA6\xE2\x80\xA9") ==
        "\\x1B[31m\\x7F\\xC2\\x9B\\xE2\\x80\\xAE\\xE2\\x81\\xA6\xE2\x80\xA9");
  CHECK(printable(std::string(300, 'x'), std::string_view::npos).size() == 300);
}
