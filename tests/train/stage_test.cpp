// SPDX-License-Identifier: Apache-2.0
// Pipelines: stages in order, one count of steps, resumed at the open stage with what earlier stages trained.
#include <atomic>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/optim/param_groups.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/train/stage.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/training_parts.hpp"

namespace {
using kdlib_tests::RaggedDocuments;
using kdlib_tests::TemporaryDirectory;
using Model = kdlib_tests::ToyModel<float>;

struct StopAt : kdlib::RunHooks {
  std::atomic<bool> stop{false};
  std::int64_t step = -1;
  std::vector<std::int64_t> starts;
  void on_start(std::int64_t from, std::int64_t) override { starts.push_back(from); }
  void on_step(const kdlib::StepReport& report) override {
    if (report.step == step) stop.store(true);
  }
};

struct Outcome {
  std::vector<kdlib::RunResult> results;
  std::vector<float> weights;
  std::vector<std::int64_t> starts;
  double first_rate_of_second = 0;
};

/// The head for 3 steps, the embedding for 4, both for 2; stopped after step `stop_at`.
Outcome run_stages(const std::string& folder, std::int64_t stop_at = -1, const char* second = "embedding") {
  Model teacher{17, 6, 1}, student{17, 4, 2};
  const kdlib::Objective objective{kdlib::LiveTeacher{teacher}, kdlib::ForwardKl{}};
  StopAt hooks;
  hooks.step = stop_at;
  kdlib::Trainer one{student, RaggedDocuments{{.seed = 1}}, objective, kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  kdlib::Trainer two{student, RaggedDocuments{{.seed = 2}}, objective, kdlib::AdamW{},
                     kdlib::WarmupLinear{.peak = 0.02, .warmup = 2, .total = 4}};
  const auto settings = [&](std::int64_t steps) {
    return kdlib::RunSettings{.steps = steps, .save_every = 2, .keep = 1, .hooks = &hooks, .stop = &hooks.stop};
  };
  kdlib::Pipeline stages{kdlib::TrainStage{"head", one, settings(3), kdlib::only("head.*")},
                         kdlib::TrainStage{second, two, settings(4), kdlib::only("embedding.*")},
                         kdlib::TrainStage{"both", one, settings(2), kdlib::everything()}};
  Outcome out;
  out.results = stages.run(kdlib::JsonLines{folder + "/metrics.jsonl"}, kdlib::Directory{folder});
  out.weights = kdlib_tests::all_values(student);
  out.starts = hooks.starts;
  return out;
}
}  // namespace

TEST_CASE("a pipeline trains each stage's parameters with its own schedule under one count of steps", "[train]") {
  const TemporaryDirectory dir;
  const Outcome outcome = run_stages(dir.path());
  REQUIRE(outcome.results.size() == 3);
  CHECK(outcome.results[0].step == 3);
  CHECK(outcome.results[1].step == 7);
  CHECK(outcome.results[2].step == 9);
  CHECK(outcome.starts == std::vector<std::int64_t>{0, 3, 7});
  std::vector<std::string> lines;
  kdlib::LineReader reader(dir / "metrics.jsonl");
  std::int64_t expected = 0;
  while (const auto line = reader.next()) {
    const kdlib::Json json = kdlib::Json::parse(std::string(*line), "line");
    CHECK(json.at("step").as_int() == ++expected);
    if (expected == 3) CHECK(json.at("train/rate").as_double() == 0.01);
    if (expected == 4)
      CHECK(json.at("train/rate").as_double() == 0.01);  // half of the second stage's peak: its schedule begins at 0
    if (expected == 5) CHECK(json.at("train/rate").as_double() == 0.02);
  }
  CHECK(expected == 9);
  CHECK(kdlib::Directory{dir.path()}.latest()->stage == "both");
}

TEST_CASE("a pipeline that is stopped anywhere and run again ends alike, with the parameters of every stage",
          "[train]") {
  const TemporaryDirectory whole;
  const Outcome expected = run_stages(whole.path());
  for (const std::int64_t stop_at : {1, 2, 3, 4, 6, 7, 8}) {
    INFO("stopped after step " << stop_at);
    const TemporaryDirectory dir;
    const Outcome first = run_stages(dir.path(), stop_at);
    CHECK_FALSE(first.results.empty());
    const Outcome second = run_stages(dir.path());
    CHECK((second.weights == expected.weights));
    CHECK(kdlib_tests::differences(kdlib_tests::run_files(dir.path()), kdlib_tests::run_files(whole.path())).empty());
  }
  const Outcome again = run_stages(whole.path());
  CHECK((again.weights == expected.weights));
  REQUIRE(again.results.size() == 1);
  CHECK(again.results[0].was_finished);
}

TEST_CASE("a checkpoint of a stage that the pipeline does not have is refused with the names", "[train]") {
  const TemporaryDirectory dir;
  run_stages(dir.path(), 4);
  CHECK_THROWS_WITH(run_stages(dir.path(), -1, "body"),
                    contains("of stage 'embedding'") && contains("head, body, both"));
}

TEST_CASE("two stages of one name are refused", "[train]") {
  CHECK_THROWS_WITH(run_stages("/unused", -1, "head"), contains("two stages are called head"));
}

TEST_CASE("stages of one type in a list go on in the text of the stage before, also after a stop between them",
          "[train]") {
  const auto run = [](const std::string& folder, kdlib::StageData data, std::int64_t stop_at = -1) {
    Model teacher{17, 6, 1}, student{17, 4, 2};
    RaggedDocuments source{{.seed = 3}};
    const kdlib::Objective objective{kdlib::LiveTeacher{teacher}, kdlib::ForwardKl{}};
    StopAt hooks;
    hooks.step = stop_at;
    kdlib::Trainer one{student, source, objective, kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
    kdlib::Trainer two{student, source, objective, kdlib::AdamW{}, kdlib::ConstantRate{0.02}};
    const kdlib::RunSettings settings{.steps = 2, .save_every = 1, .keep = 1, .hooks = &hooks, .stop = &hooks.stop};
    using Stage = kdlib::TrainStage<decltype(one), kdlib::ParameterGroups>;
    std::vector<Stage> list{{"one", one, settings, kdlib::only("head.*"), data},
                            {"two", two, settings, kdlib::everything(), data}};
    const auto results =
        kdlib::StageList{std::move(list)}.run(kdlib::JsonLines{folder + "/metrics.jsonl"}, kdlib::Directory{folder});
    if (stop_at < 0) CHECK(results.back().step == 4);
    return kdlib_tests::all_values(student);
  };
  const TemporaryDirectory whole, restarted;
  const auto expected = run(whole.path(), kdlib::StageData::go_on);
  CHECK((run(restarted.path(), kdlib::StageData::restart) != expected));
  for (const std::int64_t stop_at : {1, 2, 3}) {
    INFO("stopped after step " << stop_at);
    const TemporaryDirectory dir;
    run(dir.path(), kdlib::StageData::go_on, stop_at);
    CHECK((run(dir.path(), kdlib::StageData::go_on) == expected));
    CHECK(kdlib_tests::differences(kdlib_tests::run_files(dir.path()), kdlib_tests::run_files(whole.path())).empty());
  }
}

TEST_CASE("an empty list of stages and a best state before the last stage are refused", "[train]") {
  Model teacher{17, 6, 1}, student{17, 4, 2};
  const kdlib::Objective objective{kdlib::LiveTeacher{teacher}, kdlib::ForwardKl{}};
  kdlib::Trainer one{student, RaggedDocuments{{.seed = 1}}, objective, kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  using Stage = kdlib::TrainStage<decltype(one), kdlib::ParameterGroups>;
  CHECK_THROWS_WITH(kdlib::StageList<Stage>({}), contains("[StageList] there is no stage"));
  const Stage best{"first", one, {.steps = 1, .save = kdlib::SaveRule::best}, kdlib::everything()},
      last{"last", one, {.steps = 1}, kdlib::everything()};
  CHECK_THROWS_WITH((kdlib::StageList<Stage>({best, last})),
                    contains("the stage first keeps its best state") && contains("only the last stage may"));
  CHECK_NOTHROW(kdlib::StageList<Stage>({last, best}));
}
