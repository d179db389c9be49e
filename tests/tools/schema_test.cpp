// SPDX-License-Identifier: Apache-2.0
// The JSON Schema that --json-schema prints: the example files keep to it, wrong files do not, and it says what the
// table of options and the losses say.
#include <algorithm>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "kdlib/tools/read_number.hpp"
#include "kdlib/tools/yaml_settings.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::TemporaryDirectory;

namespace {

Json schema() {
  DistilCommand command;
  return Json::parse(command.options().json_schema(), "schema");
}

bool names_type(const Json& rule, std::string_view type) {
  const Json types = rule.at("type");
  if (!types.is_array()) return types.as_string() == type;
  for (const Json& one : types)
    if (one.as_string() == type) return true;
  return false;
}

/// Why a scalar of YAML breaks a property's rule, or an empty text. A scalar is a number where it reads as one.
std::string scalar_problem(const Json& rule, const std::string& text) {
  double number = 0;
  const bool is_number = detail::read_number(text, number);
  if (const auto words = rule.find("enum")) {
    for (const Json& word : *words)
      if (word.is_string() ? word.as_string() == text : text == (word.as_bool() ? "true" : "false")) return "";
    return "is none of the words";
  }
  if (names_type(rule, "string")) return "";
  if (!is_number) return "is no number";
  if (!names_type(rule, "number") && text.find_first_of(".eE") != std::string::npos) return "is not whole";
  if (rule.contains("minimum") && number < rule.at("minimum").as_double()) return "is below the minimum";
  if (rule.contains("maximum") && number > rule.at("maximum").as_double()) return "is above the maximum";
  if (rule.contains("exclusiveMinimum") && number <= rule.at("exclusiveMinimum").as_double()) return "is not above";
  return "";
}

/// The first way in which a config file breaks the schema.
std::string problem(const Json& schema, const std::string& path) {
  for (const FileSetting& setting : read_yaml_settings(path)) {
    const auto rule = schema.at("properties").find(setting.key);
    if (!rule) return setting.key + " is no property";
    if (setting.values.size() != 1 && !names_type(*rule, "array")) return setting.key + " is no list";
    for (const std::string& value : setting.values) {
      const bool in_list = !rule->contains("enum") && names_type(*rule, "array");
      const std::string said = in_list ? "" : scalar_problem(*rule, value);
      if (!said.empty()) return setting.key + " " + said;
    }
  }
  return "";
}

}  // namespace

TEST_CASE("config files among the examples and what runs write keep to the schema, wrong ones do not", "[tools]") {
  const Json rules = schema();
  const std::string examples = kdlib_tests::source_dir() + "/examples/data/";
  for (const char* name : {"forward_kl_and_labels.yaml", "reverse_kl_and_labels.yaml"})
    CHECK(problem(rules, examples + name) == "");
  const TemporaryDirectory dir;
  DistilCommand command;
  write_file_atomically(dir / "all.yaml", command.options().yaml());
  CHECK(problem(rules, dir / "all.yaml") == "");
  for (const auto& [line, said] : {std::pair<const char*, const char*>{"stepz: 3", "stepz is no property"},
                                   {"steps: 0", "steps is below the minimum"},
                                   {"steps: 1.5", "steps is not whole"},
                                   {"steps: many", "steps is no number"},
                                   {"steps: [1, 2]", "steps is no list"},
                                   {"lambda: 1.5", "lambda is above the maximum"},
                                   {"temperature: 0", "temperature is not above"},
                                   {"schedule: curved", "schedule is none of the words"},
                                   {"merge: perhaps", "merge is none of the words"},
                                   {"merge: on", ""},
                                   {"t-squared: auto", ""},
                                   {"merge: auto", "merge is none of the words"},
                                   {"lora-targets: [q_proj, v_proj]", ""},
                                   {"steps: 7", ""}}) {
    CAPTURE(line);
    write_file_atomically(dir / "c.yaml", std::string(line) + "\n");
    CHECK(problem(rules, dir / "c.yaml") == said);
  }
}

TEST_CASE("the schema holds every option with default, unit, group and help", "[tools]") {
  DistilCommand command;
  const Json rules = schema(), properties = rules.at("properties");
  CHECK(rules.at("title").as_string() == "distil");
  CHECK_FALSE(rules.at("additionalProperties").as_bool());
  std::size_t count = 0;
  for (const JsonMember& member : properties.members()) count += member.key.empty() ? 0 : 1;
  CHECK(count == command.options().items().size());
  for (const OptionItem& item : command.options().items()) {
    INFO(item.name);
    const Json rule = properties.at(item.name);
    CHECK(rule.at("description").as_string() == item.help);
    CHECK(rule.at("x-group").as_string() == item.group);
    CHECK(rule.string_or("x-unit", "") == item.unit);
    CHECK(rule.contains("default"));
  }
  CHECK(properties.at("steps").at("default").as_int() == 30);
  CHECK(properties.at("sample-temperature").at("default").as_double() == 1);
  CHECK(properties.at("merge").at("default").as_bool() == false);
  CHECK(properties.at("t-squared").at("default").as_string() == "auto");
  CHECK(properties.at("lora-targets").at("default")[0].as_string() == "all-linear");
  CHECK(properties.at("lora-rank").at("maximum").as_double() == 65535);
  CHECK(properties.at("max-length").at("x-unit").as_string() == "tokens");
}

TEST_CASE("the schema lists every loss with its fields", "[tools]") {
  const Json losses = schema().at("$defs").at("losses");
  AllLosses::for_each([&]<class L>(const L& loss) {
    const std::string type = snake_case(plain_type_name<L>());
    INFO(type);
    const Json listed = losses.at(type == "jensen_shannon" ? "jsd" : type);
    CHECK(listed.at("x-reads").as_string() == setting_text(needs_of<L>));
    visit_fields(loss, [&](const FieldInfo& field, auto&) {
      const Json one = listed.at("properties").at(field.name);
      CHECK(one.at("description").as_string() == field.help);
      CHECK(one.string_or("x-range", "") == field.range);
    });
  });
  CHECK(losses.at("jsd").at("properties").at("beta").at("default").as_double() == 0.5);
  CHECK(losses.at("forward_kl").at("properties").at("t_squared").at("type").as_string() == "boolean");
}

TEST_CASE("--json-schema prints the schema and ends with status 0", "[tools]") {
  DistilCommand command;
  const char* argv[] = {"distil", "--json-schema"};
  try {
    command.parse(2, argv);
    FAIL("nothing was thrown");
  } catch (const HelpRequested& answer) {
    CHECK(Json::parse(answer.what(), "schema").at("type").as_string() == "object");
  }
}
