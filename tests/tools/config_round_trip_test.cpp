// SPDX-License-Identifier: Apache-2.0
// What a run writes into config.yaml, --config reads: every option of distil once with a value other than its default.
#include <algorithm>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/recipe/run_folder.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "kdlib/tools/yaml_settings.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

namespace {

void parse(Options& options, const std::vector<std::string>& words) {
  std::vector<const char*> argv{"distil"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  options.parse(static_cast<int>(argv.size()), argv.data());
}

/// The whole command line with the checks of combinations.
std::string refusal(const std::vector<std::string>& words) {
  DistilCommand command;
  std::vector<const char*> argv{"distil"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  try {
    command.parse(static_cast<int>(argv.size()), argv.data());
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// What a run of this command line writes into its config.yaml.
std::vector<DescribedSetting> described(const std::vector<std::string>& words) {
  DistilCommand command;
  std::vector<const char*> argv{"distil"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  command.parse(static_cast<int>(argv.size()), argv.data());
  return describe(command.settings());
}

/// Values other than the default that keep the option's rules: words with which a plain join or a plain YAML scalar
/// would go wrong among them.
std::vector<std::vector<std::string>> other_values(const OptionItem& item) {
  std::vector<std::vector<std::string>> out;
  switch (item.kind) {
    case OptionKind::text:
      for (const std::string& choice : item.choices)
        if (choice != item.default_text) out.push_back({choice});
      if (item.choices.empty())
        for (const char* text : {"a b", "yes", "~", "1e3", "a: #b", "\"quoted\" \\", "[x, y]", "caf\xC3\xA9\n"})
          out.push_back({text});
      return out;
    case OptionKind::list:
      if (item.names) return {{"a"}, {"b,c"}, {"a \"e\" #", "b", "c"}};  // commas separate them
      return {{"q_proj", "v_proj"}, {"q_proj"}, {"a b", "c,d", "", "\"e\""}};
    case OptionKind::boolean:
      return {{item.default_text == "on" ? "off" : "on"}};
    case OptionKind::optional_boolean:
      return {{"on"}, {"off"}};
    default:
      break;
  }
  const bool whole = item.kind != OptionKind::real32 && item.kind != OptionKind::real64;
  const std::vector<const char*> whole_numbers{"3", "17", "1"}, others{"0.1", "0.30000000000000004", "1e-7", "7200.5"};
  for (const char* number : whole ? whole_numbers : others) {
    const double value = std::stod(number);
    if ((!item.least || value >= *item.least) && (!item.most || value <= *item.most) &&
        (!item.above || value > *item.above) && item.default_text != number)
      out.push_back({number});
  }
  return out;
}

}  // namespace

TEST_CASE("every option with another value than its default is read back from the config file that a run writes",
          "[tools]") {
  const TemporaryDirectory dir;
  const std::string config = dir / "config.yaml";
  std::size_t tried = 0, accepted = 0;
  DistilCommand table;
  for (const OptionItem& item : table.options().items()) {
    if (item.name == "config") continue;  // what it said is in the other keys
    const auto values = other_values(item);
    INFO("--" << item.name);
    REQUIRE_FALSE(values.empty());
    for (const std::vector<std::string>& value : values) {
      std::vector<std::string> words{"--teacher=T"};
      if (item.name == "teacher") words.clear();
      if (value.size() == 1) {
        words.push_back("--" + item.name + "=" + value[0]);
      } else {
        words.push_back("--" + item.name);
        words.insert(words.end(), value.begin(), value.end());
      }
      DistilCommand first_command, second_command;
      Options &first = first_command.options(), &second = second_command.options();
      parse(first, words);
      INFO(first.yaml());
      write_file_atomically(config, first.yaml());
      parse(second, {"--config", config});
      auto settings = second.settings();
      for (auto& [name, text] : settings)
        if (name == "config") text.clear();  // the path of the file itself
      CHECK((settings == first.settings()));
      CHECK(second.yaml() == first.yaml());
      CHECK(second.given(item.name));
      CHECK(first.differences(read_yaml_settings(config)).empty());
      // A run with the defaults finds this option, and no other, changed.
      DistilCommand defaults;
      parse(defaults.options(), {item.name == "teacher" ? "--teacher=U" : "--teacher=T"});
      const auto different = defaults.options().differences(read_yaml_settings(config));
      if (item.name != "preset") CHECK(different.size() == 1);
      CHECK(std::any_of(different.begin(), different.end(),
                        [&](const SettingDifference& d) { return d.name == item.name; }));
      ++tried;
      if (!refusal(words).empty()) continue;  // an option that needs another one beside it
      CHECK(refusal({"--config", config}) == "");
      ++accepted;
      // The same from what a run writes: the described settings of the recipe.
      const std::vector<DescribedSetting> written = described(words);
      write_file_atomically(config, run_config_text(written));
      const std::vector<DescribedSetting> read = described({"--config", config});
      REQUIRE(read.size() == written.size());
      for (std::size_t i = 0; i < read.size(); ++i) {
        CHECK(read[i].key == written[i].key);
        CHECK(read[i].values == written[i].values);
      }
      RunFolder(dir.path()).check_same(read);
    }
  }
  CHECK(tried > 100);
  CHECK(accepted > 60);
}

TEST_CASE("a config file of every option at its default asks for nothing", "[tools]") {
  const TemporaryDirectory dir;
  DistilCommand first, second, third;
  parse(first.options(), {"--teacher", "T"});
  write_file_atomically(dir / "config.yaml", first.options().yaml());
  parse(second.options(), {"--config", dir / "config.yaml"});
  for (const OptionItem& item : second.options().items()) {
    INFO(item.name);
    CHECK(item.given == (item.name == "teacher" || item.name == "config"));
  }
  CHECK(refusal({"--config", dir / "config.yaml"}) == "");
  // The command line still wins, and what is typed counts as asked for.
  parse(third.options(), {"--config", dir / "config.yaml", "--steps", "7", "--lora-targets", "q_proj", "v_proj"});
  CHECK(third.settings().training.steps == 7);
  CHECK(third.options().given("lora-targets"));
}

TEST_CASE("options that nothing reads are no reason to refuse a run; tools answer written text alone", "[tools]") {
  const std::vector<std::string> given{"--teacher=T", "--data=d", "--validation=v"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), given.begin(), given.end());
    return refusal(more);
  };
  CHECK(with({"--max-length=32"}) == "");  // --max-new-tokens is 112, and no text is written
  CHECK_THAT(refusal({"--teacher=T", "--max-length=32"}), contains("leaves no room for a prompt"));
  CHECK(refusal({"--teacher=T", "--tools=calculator"}) == "");
  CHECK_THAT(with({"--tools=calculator"}), contains("all text is given"));
}
