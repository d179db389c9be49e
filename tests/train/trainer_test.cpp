// SPDX-License-Identifier: Apache-2.0
// The trainer's loop on a toy model: what it reports, selects, skips, refuses, stops at and keeps as best.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/optim/param_groups.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/optim/sgd.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/training_parts.hpp"

namespace {
using kdlib_tests::ListedBatches;
using kdlib_tests::RaggedDocuments;
using kdlib_tests::TemporaryDirectory;
using Model = kdlib_tests::ToyModel<float>;
using Teacher = kdlib_tests::TestTeacher<Model>;

struct Setup {
  Model teacher{17, 6, 1}, student{17, 4, 2};
  kdlib::Objective<Teacher, kdlib::ForwardKl> objective() { return {Teacher{teacher}, kdlib::ForwardKl{}}; }
};

struct Recorder : kdlib::RunHooks {
  std::vector<kdlib::StepReport> steps;
  std::vector<std::int64_t> evaluated, checkpoints;
  std::vector<std::string> messages;
  std::vector<double> values{};  // what evaluate answers, in order
  std::atomic<bool>* stop = nullptr;
  std::int64_t stop_at = -1;

  void on_step(const kdlib::StepReport& report) override {
    steps.push_back(report);
    if (stop != nullptr && report.step == stop_at) stop->store(true);
  }
  kdlib::Evaluation evaluate(std::int64_t step) override {
    const double value = values.empty() ? std::numeric_limits<double>::quiet_NaN() : values.at(evaluated.size());
    evaluated.push_back(step);
    return {{{"evaluation/value", value}}, value};
  }
  void on_checkpoint(std::int64_t step) override { checkpoints.push_back(step); }
  void on_message(const std::string& text) override { messages.push_back(text); }
};
}  // namespace

TEST_CASE("training lowers the divergence and reports every step", "[train]") {
  Setup s;
  kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::AdamW{}, kdlib::ConstantRate{0.02}};
  kdlib::MemoryMetrics metrics;
  Recorder recorder;
  const kdlib::RunResult result =
      trainer.run({.steps = 60, .micro_batches = 2, .clip_norm = 1.0, .hooks = &recorder}, metrics);
  CHECK(result.finished);
  CHECK(result.step == 60);
  const auto kl = metrics.series("train/forward_kl"), loss = metrics.series("train/loss");
  REQUIRE(kl.size() == 60);
  CHECK(kl.front().first == 1);
  CHECK(kl.back().first == 60);
  CHECK(kl.back().second < 0.5 * kl.front().second);
  CHECK(loss.back().second == Approx(kl.back().second));  // the loss is the forward KL at temperature 1
  const auto tokens = metrics.series("train/tokens"), total = metrics.series("tokens");
  double sum = 0;
  for (const auto& entry : tokens) sum += entry.second;
  CHECK(total.back().second == sum);
  CHECK(metrics.series("train/rate").back().second == 0.02);
  REQUIRE(recorder.steps.size() == 60);
  CHECK(recorder.steps.back().loss == loss.back().second);
  CHECK(recorder.steps.front().steps == 60);
}

TEST_CASE("a selection trains its parameters alone and the marks come back", "[train]") {
  Setup s;
  s.student.parameters()[1]->trainable = false;
  const auto before = kdlib_tests::all_values(s.student);
  const auto count = static_cast<std::size_t>(s.student.parameters()[0]->value.count());
  kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::Sgd{}, kdlib::ConstantRate{0.1}};
  kdlib::NoCheckpoints store;
  trainer.run({.steps = 2}, kdlib::NoMetrics{}, store, kdlib::only("head.*"));
  const auto after = kdlib_tests::all_values(s.student);
  CHECK(std::equal(after.begin(), after.begin() + static_cast<std::ptrdiff_t>(count), before.begin()));
  CHECK_FALSE(std::equal(after.begin() + static_cast<std::ptrdiff_t>(count), after.end(),
                         before.begin() + static_cast<std::ptrdiff_t>(count)));
  CHECK(s.student.parameters()[0]->trainable);
  CHECK_FALSE(s.student.parameters()[1]->trainable);
  CHECK_THROWS_WITH(trainer.run({.steps = 2}, kdlib::NoMetrics{}, store, kdlib::only("lora")),
                    contains("the pattern lora fits none of the"));
  CHECK_THROWS_WITH(trainer.run({.steps = 2}, kdlib::NoMetrics{}, store, kdlib::ParameterGroups({{"*", 0}})),
                    contains("no parameter is trainable"));
}

TEST_CASE("a step of weight 0 changes nothing and is reported", "[train]") {
  Setup s;
  kdlib::TokenBatch empty, full;
  const std::vector<std::int32_t> ids{1, 2, 3};
  empty.append(ids, std::vector<float>{0, 0, 0});
  full.append(ids);
  kdlib::Trainer trainer{s.student, ListedBatches{{empty, full}}, s.objective(), kdlib::AdamW{},
                         kdlib::ConstantRate{0.1}};
  kdlib::MemoryMetrics metrics;
  Recorder recorder;
  const auto before = kdlib_tests::all_values(s.student);
  const auto first = trainer.run({.steps = 1, .hooks = &recorder}, metrics);
  CHECK(kdlib_tests::all_values(s.student) == before);
  CHECK(first.skipped_steps == 1);
  CHECK(first.loss == 0.0);
  CHECK(recorder.steps.at(0).skipped);
  REQUIRE(recorder.messages.size() == 1);
  CHECK_THAT(recorder.messages[0], contains("step 1 has no token that counts"));
  CHECK(metrics.series("train/skipped").size() == 1);
  CHECK(metrics.series("train/loss").at(0).second == 0.0);  // not NaN
  const auto second = trainer.run({.steps = 1}, metrics);
  CHECK(second.skipped_steps == 0);
  CHECK_FALSE(kdlib_tests::all_values(s.student) == before);
}

TEST_CASE("a loss that is not finite ends the run before the update, naming the step", "[train]") {
  Setup s;
  kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  struct Poison : kdlib::RunHooks {
    Model* model = nullptr;
    std::vector<float> left;
    void on_step(const kdlib::StepReport& report) override {
      if (report.step != 2) return;
      float* values = model->parameters()[1]->value.data();
      for (int i = 0; i < 17 * 4; ++i) values[i] = std::numeric_limits<float>::quiet_NaN();
      left = kdlib_tests::all_values(*model);
    }
  } poison;
  poison.model = &s.student;
  CHECK_THROWS_WITH(trainer.run({.steps = 5, .hooks = &poison}),
                    contains("step 3: the loss is not finite") && contains("Lower the rate"));
  const auto now = kdlib_tests::all_values(s.student);
  CHECK(std::equal(now.begin(), now.begin() + 17 * 4, poison.left.begin()));  // the embedding, which was still finite
  CHECK_THROWS_WITH(trainer.run({.steps = 5}), contains("step 1: the loss is not finite") &&
                                                   contains("No update was made yet") && contains("inspect --check"));
  CHECK_THROWS_AS(trainer.run({.steps = 5}), kdlib::TrainingError);
}

TEST_CASE("a source that ends early ends the run, and its last batches are trained on", "[train]") {
  Setup s;
  RaggedDocuments source{{.batches = 5}};
  kdlib::Trainer trainer{s.student, source, s.objective(), kdlib::Sgd{}, kdlib::ConstantRate{0.1}};
  kdlib::MemoryMetrics metrics;
  const auto result = trainer.run({.steps = 100, .micro_batches = 2}, metrics);
  CHECK(result.exhausted);
  CHECK(result.finished);
  CHECK(result.step == 3);
  CHECK(source.cursor() == "5");  // the source was an lvalue: it is borrowed
  CHECK(metrics.series("train/tokens").back().second == source.batch(4).weight());
}

TEST_CASE("a stop request saves after the step and a later run goes on", "[train]") {
  const TemporaryDirectory dir;
  std::atomic<bool> stop{false};
  Recorder recorder;
  recorder.stop = &stop;
  recorder.stop_at = 4;
  {
    Setup s;
    kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
    const auto result =
        trainer.run({.steps = 9, .hooks = &recorder, .stop = &stop}, kdlib::NoMetrics{}, kdlib::Directory{dir.path()});
    CHECK(result.stopped);
    CHECK_FALSE(result.finished);
    CHECK(result.step == 4);
    CHECK(kdlib::Directory{dir.path()}.steps() == std::vector<std::int64_t>{4});
  }
  Setup s;
  kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  const auto result = trainer.run({.steps = 9}, kdlib::NoMetrics{}, kdlib::Directory{dir.path()});
  CHECK(result.resumed_from == 4);
  CHECK(result.finished);
  const auto again = trainer.run({.steps = 9}, kdlib::NoMetrics{}, kdlib::Directory{dir.path()});
  CHECK(again.was_finished);
  CHECK(again.step == 9);
}

TEST_CASE("evaluation comes at its interval and at the end, and the lowest value is kept as best", "[train]") {
  const TemporaryDirectory dir;
  Setup s;
  kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  Recorder recorder;
  recorder.values = {5.0, 2.0, 1.0, 3.0, 4.0};
  std::vector<float> at_six;
  struct Keep : Recorder {
    Model* model = nullptr;
    std::vector<float> best;
    void write_files(const std::string& folder, std::int64_t step, bool is_best) override {
      if (is_best) best = kdlib_tests::all_values(*model);
      kdlib::write_file_atomically(folder + "/note.txt", std::to_string(step));
    }
  } keep;
  keep.values = recorder.values;
  keep.model = &s.student;
  kdlib::MemoryMetrics metrics;
  kdlib::Directory store{dir.path()};
  const auto result = trainer.run(
      {.steps = 10, .save_every = 4, .keep = 2, .evaluate_every = 3, .evaluate_first = true, .hooks = &keep}, metrics,
      store);
  CHECK(keep.evaluated == std::vector<std::int64_t>{0, 3, 6, 9, 10});
  CHECK(metrics.series("evaluation/value").size() == 5);
  CHECK(result.best_step == 6);
  CHECK(result.best_value == 1.0);
  CHECK(keep.checkpoints == std::vector<std::int64_t>{4, 8, 10});
  CHECK(store.steps() == std::vector<std::int64_t>{8, 10});
  CHECK(kdlib::read_file(dir / "checkpoints/10/note.txt") == "10");
  CHECK(kdlib::read_file(dir / "best/note.txt") == "6");
  const auto best = store.best();
  REQUIRE(best);
  CHECK(best->step == 6);
  CHECK(best->best_value == 1.0);
  kdlib::load_parameters(best->parameters, s.student.parameters());
  CHECK(kdlib_tests::all_values(s.student) == keep.best);
}

TEST_CASE("settings that make no run are refused by name", "[train]") {
  Setup s;
  kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::Sgd{}, kdlib::ConstantRate{0.1}};
  CHECK_THROWS_WITH(trainer.run({}), contains("steps is 0"));
  CHECK_THROWS_WITH(trainer.run({.steps = 1, .micro_batches = 0}), contains("micro_batches"));
  CHECK_THROWS_WITH(trainer.run({.steps = 1, .clip_norm = -1}), contains("clip_norm"));
  CHECK_THROWS_WITH(trainer.run({.steps = 1, .settings = {{"optimizer", "mine"}}}),
                    contains("optimizer is given twice"));
  CHECK_THROWS_WITH(trainer.run({.steps = 1, .recompute = true}), contains("cannot recompute"));
}

TEST_CASE("a changed loss, source or optimizer is refused by name, more steps are not", "[train]") {
  const TemporaryDirectory dir;
  Setup s;
  kdlib::Directory store{dir.path()};
  kdlib::Trainer trainer{s.student, RaggedDocuments{{}}, s.objective(), kdlib::AdamW{}, kdlib::ConstantRate{0.1}};
  trainer.run({.steps = 2}, kdlib::NoMetrics{}, store);
  CHECK(trainer.run({.steps = 3}, kdlib::NoMetrics{}, store).step == 3);
  CHECK_THROWS_WITH(trainer.run({.steps = 4, .micro_batches = 2}, kdlib::NoMetrics{}, store),
                    contains("micro_batches was 1 and is now 2"));
  CHECK_THROWS_WITH(trainer.run({.steps = 4, .settings = {{"note", "x"}}}, kdlib::NoMetrics{}, store),
                    contains("note was (not set) and is now x"));
  kdlib::Trainer warmer{s.student, RaggedDocuments{{}},
                        kdlib::Objective{Teacher{s.teacher}, kdlib::ForwardKl{.temperature = 2}}, kdlib::AdamW{},
                        kdlib::ConstantRate{0.1}};
  CHECK_THROWS_WITH(warmer.run({.steps = 4}, kdlib::NoMetrics{}, store),
                    contains("loss.temperature was 1 and is now 2"));
  kdlib::Trainer other{s.student, RaggedDocuments{{.seed = 2}}, s.objective(), kdlib::AdamW{},
                       kdlib::ConstantRate{0.1}};
  CHECK_THROWS_WITH(other.run({.steps = 4}, kdlib::NoMetrics{}, store), contains("source.seed was 1 and is now 2"));
  kdlib::Trainer plain{s.student, RaggedDocuments{{}}, s.objective(), kdlib::Sgd{}, kdlib::ConstantRate{0.1}};
  CHECK_THROWS_WITH(plain.run({.steps = 4}, kdlib::NoMetrics{}, store), contains("optimizer was AdamW and is now Sgd"));
  CHECK(plain.run({.steps = 4, .resume = false}, kdlib::NoMetrics{}, store).step ==
        4);  // starts over: the old checkpoints are removed
  CHECK(store.steps() == std::vector<std::int64_t>{4});
  CHECK(kdlib::setting_or_not_set(store.latest()->settings, "loss") == "ForwardKl");
}

TEST_CASE("ids outside the vocabulary are refused before the model sees them", "[train]") {
  Setup s;
  kdlib::TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 17});
  kdlib::Trainer trainer{s.student, ListedBatches{{batch}}, s.objective(), kdlib::Sgd{}, kdlib::ConstantRate{0.1}};
  CHECK_THROWS_WITH(trainer.run({.steps = 1}), contains("id 17, outside the vocabulary of 17"));
}
