// SPDX-License-Identifier: Apache-2.0
// The interpreter of Jinja: small templates of our own against Jinja2 (scripts/make_jinja_reference.py), places of
// errors, and limits.
#include "kdlib/text/jinja.hpp"

#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Kind = JinjaError::Kind;

namespace {

std::string rendered(const std::string& source, const Json& variables, const JinjaLimits& limits = {}) {
  std::vector<JinjaVariable> given;
  for (const auto& [name, value] : variables.members()) given.push_back({name, value});
  return JinjaTemplate(source, "own").render(given, {2026, 1, 5, 15, 4, 9}, limits).text;
}

/// The error of a template without variables.
JinjaError failure(const std::string& source, const JinjaLimits& limits = {}) {
  try {
    rendered(source, Json::parse("{}", "none"), limits);
  } catch (const JinjaError& error) {
    return error;
  }
  FAIL("it rendered: " << source);
  throw 0;
}

}  // namespace

TEST_CASE("own templates render or fail as with Jinja2", "[text]") {
  const std::vector<Json> lines = read_json_lines(reference_file("text/jinja.jsonl"));
  REQUIRE(lines.size() > 400);
  const Json variables = lines[0].at("variables");
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const std::string source(lines[i].at("template").as_string());
    INFO(source);
    std::string text;
    try {
      text = rendered(source, variables);
    } catch (const JinjaError& error) {
      INFO(error.what());
      CHECK(lines[i].contains("error"));
      const std::string kind = lines[i].string_or("error", "");
      CHECK((kind == "raised") == (error.kind() == Kind::raised));
      if (kind == "raised") CHECK(error.words() == lines[i].at("words").as_string());
      if (kind == "undefined") CHECK((error.kind() == Kind::undefined || error.kind() == Kind::unknown));
      continue;
    }
    CHECK(text == lines[i].string_or("text", "an error: " + lines[i].string_or("words", "")));
  }
}

TEST_CASE("errors of templates name file, line and column and what is missing", "[text]") {
  CHECK_THROWS_WITH(JinjaTemplate("a\n {{ 1 + }}", "f.jinja"),
                    contains("[jinja] f.jinja:2:") && contains("an expression"));
  CHECK(std::string(failure("ab\n{{ x.y }}").what()) == "[jinja] own:2:5: 'x' is undefined");
  CHECK(failure("{{ x() }}").words() == "'x' is undefined and cannot be called");
  CHECK_THAT(failure("{{ 'a'.nope() }}").words(), contains("str") && contains("nope"));
  CHECK_THAT(failure("{{ 1 | nope }}").words(), contains("filter named nope"));
  CHECK_THAT(failure("{{ 1 is nope }}").words(), contains("test named nope"));
  CHECK(failure("{{ 1 | nope }}").kind() == Kind::unknown);
  CHECK_THAT(failure("{% include 'x' %}").words(), contains("include"));
  CHECK_THAT(failure("{% if true %}x").words(), contains("endif"));
  CHECK_THAT(failure("{{ 'a' + 1 }}").words(), contains("str") && contains("int"));
  CHECK_THAT(failure("{{ [].append(1) }}").words(), contains("append"));
  const JinjaError raised = failure("{{ raise_exception('Roles must alternate!') }}");
  CHECK(raised.kind() == Kind::raised);
  CHECK(raised.words() == "Roles must alternate!");
  CHECK_THROWS_WITH(JinjaTemplate("\xff", "f"), contains("UTF-8"));
  // What is quoted is cut between bytes of a character: it is written out, the message stays UTF-8.
  CHECK_THAT(failure("{{ '\\u0\xc3\xa9\xc3\xa9' }}").words(),
             contains("the escape \\u0\xc3\xa9\\xC3 in a string names no character"));
  CHECK_THAT(failure("{{ strftime_now('%\xc3\xa9') }}").words(), contains("%\xc3\xa9 is not known"));
  CHECK_THAT(failure("{{ '%\xc3\xa9' % 1 }}").words(), contains("%\xc3\xa9 is not known"));
  CHECK_THROWS_WITH(JinjaTemplate(std::string(JinjaTemplate::max_source + 1, 'a'), "f"), contains("bytes"));
}

TEST_CASE("templates that would not end are stopped, in bounded time, memory and depth", "[text]") {
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x"
      "{% endfor %}{% endfor %}{% endfor %}";
  const std::string empty_loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  const std::string doubled =
      "{% set ns = namespace(x=X) %}{% for i in range(200) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
  const std::string shared =
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
  const auto with = [&](const char* x) { return "{% set X = " + std::string(x) + " %}" + doubled; };
  const std::string brackets = "{{ " + std::string(20000, '(') + "1" + std::string(20000, ')') + " }}";
  const std::string lists = "{{ " + std::string(20000, '[') + std::string(20000, ']') + " }}";
  for (const std::string& source :
       {loops, empty_loops, with("'ab'"), with("[1, 2]"), shared + "{{ ns.x }}", shared + "{{ ns.x | tojson }}",
        shared + "{% set a = ns.x %}" + shared + "{{ a == ns.x }}", std::string("{{ 'x' * 99999999999 }}"),
        std::string("{{ [1] * 99999999999 }}"), std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        std::string("{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ g() }}"), brackets,
        lists, "{{ " + std::string(20000, '-') + "1 }}", std::string("{{ range(10 ** 9) | list }}"),
        std::string("{% set ns = namespace(x=1) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}"),
        std::string("{% set x = 'a' * 9999999 %}{{ x.replace('a', x) }}"),
        std::string("{{ ' ' | indent(99999) }}{% for i in range(9999) %}{{ '\\na' | indent(99999) }}{% endfor %}")}) {
    INFO(source.substr(0, 100));
    CHECK(failure(source).kind() == Kind::limit);
  }
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{% if 1 %}";
  CHECK(failure(blocks).kind() == Kind::limit);
  std::string sum = "{{ 1";
  for (int i = 0; i < 20000; ++i) sum += " + 1";
  CHECK(failure(sum + " }}").kind() == Kind::limit);
  std::string calls = "{{ x";
  for (int i = 0; i < 20000; ++i) calls += ".a";
  CHECK(failure(calls + " }}").kind() == Kind::limit);
  // A namespace that holds itself ends with the rendering.
  CHECK(rendered("{% set ns = namespace() %}{% set ns.x = ns %}{% set ns.y = [ns] %}{{ ns.x.y | length }}",
                 Json::parse("{}", "none")) == "1");
  CHECK(failure("{% for i in range(100) %}xy{% endfor %}", {.steps = 150}).kind() == Kind::limit);
  CHECK(failure("{% for i in range(100) %}xy{% endfor %}", {.bytes = 1000}).kind() == Kind::limit);
}

TEST_CASE("a template is one for several threads' use and reports what it reads", "[text]") {
  const JinjaTemplate one("{% for m in messages %}{{ m }}{% endfor %}{% generation %}a{% endgeneration %}", "own");
  CHECK(one.reads("messages"));
  CHECK_FALSE(one.reads("tools"));
  CHECK(one.has_generation());
  const JinjaTemplate copy = one;
  const std::vector<JinjaVariable> given = {{"messages", Json::parse("[1, 2]", "m")}};
  CHECK(copy.render(given).text == "12a");
  CHECK(one.render(given).generation == std::vector<std::pair<std::size_t, std::size_t>>{{2, 3}});
}
