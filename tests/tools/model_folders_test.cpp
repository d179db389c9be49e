// SPDX-License-Identifier: Apache-2.0
// What a program's --model and --adapter stand for.
#include "kdlib/tools/model_folders.hpp"

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using kdlib_tests::refusal;

namespace {

/// A finished run of distil, as far as its folder tells; `rounded`: with the weights beside which it was trained.
std::string run_folder(const std::string& name, bool rounded) {
  const std::string run = "model_folders/" + name;
  for (const char* part : {"/adapter", "/base"}) make_directories(run + part);
  write_file_atomically(run + "/config.yaml", rounded ? "quantize: int4\n" : "quantize: none\n");
  write_file_atomically(run + "/result.json", "{}");
  write_file_atomically(run + "/adapter/adapter_config.json", R"({"base_model_name_or_path": "student"})");
  if (rounded) write_file_atomically(run + "/base/config.json", "{}");
  return run;
}

}  // namespace

TEST_CASE("a run's adapter goes with the rounded weights that it was trained beside, and with no others", "[tools]") {
  const std::string run = run_folder("rounded", true);
  const ModelPlace place = find_model(run);
  CHECK(place.model == run + "/base");
  CHECK(place.adapter == run + "/adapter");
  CHECK(find_model(run + "/base", run + "/adapter").adapter == run + "/adapter");
  CHECK(find_model(run + "/base/", run + "/adapter/").adapter == run + "/adapter/");
  for (const char* adapter : {"/adapter", "/adapter/"}) {
    const std::string message = refusal([&] { find_model("teacher", run + adapter); });
    CHECK(message.find("was trained beside the rounded weights of " + run + "/base") != std::string::npos);
    CHECK(message.find("name " + run + "/base as the model") != std::string::npos);
  }
  CHECK(find_model("teacher").model == "teacher");
  CHECK(find_model("teacher", "adapters/mine").adapter == "adapters/mine");
}

TEST_CASE("the adapter of a run that rounded nothing belongs to the student that the run names", "[tools]") {
  const std::string run = run_folder("plain", false);
  remove_tree("student");  // of an earlier run of this test
  const std::string gone = refusal([&] { find_model(run); });
  CHECK(gone.find("was trained on student, which is not there, seen from this folder: name the model, and " + run +
                  "/adapter as its adapter") != std::string::npos);
  make_directories("student");
  CHECK(find_model(run).model == "student");
  CHECK(find_model("student", run + "/adapter").model == "student");
  CHECK_THROWS_AS(find_model(run, "other/adapter"), SettingsError);
  const std::string message = refusal([&] { find_model(run, "other/adapter"); });
  CHECK(message.find("name student as the model to use other/adapter") != std::string::npos);
}

TEST_CASE("where a model alone is needed, the run of an adapter is refused and one of a model is taken", "[tools]") {
  const std::string run = run_folder("adapter_alone", true), whole = "model_folders/whole";
  const std::string message = refusal([&] { find_whole_model(run); });
  CHECK(message.find(run + " is a run of distil whose result is an adapter") != std::string::npos);
  CHECK(message.find("convert --model " + run + " --merge --to hf --out DIR") != std::string::npos);
  make_directories(whole + "/model");
  write_file_atomically(whole + "/config.yaml", "train: full\n");
  write_file_atomically(whole + "/result.json", "{}");
  CHECK(find_whole_model(whole) == whole + "/model");
  CHECK(find_whole_model("some/model") == "some/model");

  RecipeModels models;
  models.teachers = {"math=" + whole, "code=https://host:8000", "broken"};
  models_of_runs(models);
  CHECK(models.teachers == std::vector<std::string>{"math=" + whole + "/model", "code=https://host:8000", "broken"});
  models.teachers = {"math=" + run};
  CHECK(refusal([&] { models_of_runs(models); }).find("convert --model " + run) != std::string::npos);
}
