// SPDX-License-Identifier: Apache-2.0
// Inputs of a run by content: what changed under the same path is named by its option.
#include "kdlib/recipe/inputs.hpp"

#include "kdlib/io/atomic_file.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

TEST_CASE("another content under the same path is refused by the option's name, another place of the same is not",
          "[recipe]") {
  const TemporaryDirectory dir;
  make_directories(dir / "model");
  write_file_atomically(dir / "model/config.json", "{}");
  write_file_atomically(dir / "model/model.safetensors", "weights");
  write_file_atomically(dir / "d.jsonl", "{\"ids\": [1, 2]}\n");
  write_file_atomically(dir / "v.jsonl", "{\"ids\": [3, 4]}\n");
  RecipeSettings settings;
  settings.models.teacher = dir / "model";
  settings.text.data.path = dir / "d.jsonl";
  settings.text.validation.path = dir / "v.jsonl";
  const SettingsList first = input_hashes(settings);
  REQUIRE(first.size() == 3);
  CHECK(first[0].first == "teacher");
  CHECK(first[0].second.rfind("sha256:", 0) == 0);
  const std::string file = dir / "inputs.json";
  write_file_atomically(file, inputs_text(first));
  check_same_inputs(file, input_hashes(settings), settings);
  const auto refuses = [&](const char* path, const char* text, const char* option, const char* what) {
    const std::string before = read_file(dir / path);
    write_file_atomically(dir / path, text);
    CHECK_THROWS_AS(check_same_inputs(file, input_hashes(settings), settings), ConfigError);
    CHECK_THROWS_WITH(check_same_inputs(file, input_hashes(settings), settings),
                      contains(std::string("--") + option) && contains(what) && contains("than when this run began"));
    write_file_atomically(dir / path, before);
    check_same_inputs(file, input_hashes(settings), settings);
  };
  refuses("model/model.safetensors", "weightS", "teacher", "other weights or files");
  refuses("model/config.json", "{\"a\": 1}", "teacher", "other weights or files");
  refuses("d.jsonl", "{\"ids\": [1, 3]}\n", "data", "other text");
  refuses("v.jsonl", "{\"ids\": [3, 4]}\n\n", "validation", "other text");
  rename_path(dir / "model", dir / "moved");  // where an input stands is the settings' business
  settings.models.teacher = dir / "moved";
  check_same_inputs(file, input_hashes(settings), settings);
}

TEST_CASE("an input that is not there is left to whoever loads it", "[recipe]") {
  RecipeSettings settings;
  settings.models.teacher = "/nowhere/model";
  CHECK(recipe_inputs(settings).size() == 1);
  CHECK(input_hashes(settings).empty());
}

TEST_CASE("paths of models, caches and text that are not there are named with their option", "[recipe]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "d.jsonl", "{\"ids\": [1, 2]}\n");
  RecipeSettings right;
  right.models.teacher = right.models.student = right.models.student_adapter = dir.path();
  right.models.cache.folder = right.models.cache.validation = dir.path();
  right.text.data.path = right.text.prompts.path = right.text.validation.path = dir / "d.jsonl";
  check_inputs_are_there(right);
  const auto missing = [&](auto&& place, const std::string& option) {
    RecipeSettings settings = right;
    place(settings) = "/nowhere/x";
    CHECK_THROWS_AS(check_inputs_are_there(settings), IoError);
    CHECK_THROWS_WITH(check_inputs_are_there(settings),
                      contains("[distil] --" + option + " /nowhere/x is not there: give "));
  };
  missing([](RecipeSettings& s) -> std::string& { return s.models.teacher; }, "teacher");
  missing([](RecipeSettings& s) -> std::string& { return s.models.student; }, "student");
  missing([](RecipeSettings& s) -> std::string& { return s.models.student_adapter; }, "student-adapter");
  missing([](RecipeSettings& s) -> std::string& { return s.models.cache.folder; }, "cache");
  missing([](RecipeSettings& s) -> std::string& { return s.models.cache.validation; }, "validation-cache");
  missing([](RecipeSettings& s) -> std::string& { return s.text.data.path; }, "data");
  missing([](RecipeSettings& s) -> std::string& { return s.text.prompts.path; }, "prompts");
  missing([](RecipeSettings& s) -> std::string& { return s.text.validation.path; }, "validation");
  RecipeSettings several;
  several.models.teachers = {"math=" + dir.path(), "code=/nowhere/x", "asked=http://localhost:1"};
  CHECK_THROWS_WITH(check_inputs_are_there(several),
                    contains("[distil] --teachers code=/nowhere/x is not there: give"));
}
