// SPDX-License-Identifier: Apache-2.0
// How a run begins again and how it ends: refused without a trace, stopped in an evaluation, finished for a reason,
// with the best or the last state; and how the divergence of a step is spread over its rows.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/param_groups.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/train/stage.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"
#include "support/training_parts.hpp"

namespace {
using kdlib_tests::RaggedDocuments;
using kdlib_tests::TemporaryDirectory;
using Model = kdlib_tests::ToyModel<float>;
using Teacher = kdlib_tests::TestTeacher<Model>;

/// Evaluates to values[step] and stops or ends where it is told to.
struct Script : kdlib::RunHooks {
  std::vector<double> values = std::vector<double>(64, 1.0);
  std::int64_t stop_in_evaluation = -1;
  std::int64_t reason_at = -1;
  std::vector<std::string> messages;

  kdlib::Evaluation evaluate(std::int64_t step) override {
    if (step == stop_in_evaluation) throw kdlib::StopRequested("stopped");
    return {{{"evaluation/value", values.at(static_cast<std::size_t>(step))}},
            values.at(static_cast<std::size_t>(step))};
  }
  std::string finish_reason(const kdlib::StepReport& report) override {
    return report.step == reason_at ? "the loss no longer falls" : "";
  }
  void on_message(const std::string& text) override { messages.push_back(text); }
};

/// A sink of the user's own that writes down how it is called: "rewind -1", "scalars 3" for any number of scalars of
/// step 3, "flush".
struct WrittenCalls {
  std::vector<std::string> calls;

  void scalar(std::string_view, std::int64_t step, double) {
    const std::string text = kdlib::concat("scalars ", step);
    if (calls.empty() || calls.back() != text) calls.push_back(text);
  }
  void flush() { calls.emplace_back("flush"); }
  void rewind(std::int64_t step) { calls.push_back(kdlib::concat("rewind ", step)); }
};

struct Outcome {
  kdlib::RunResult result;
  std::vector<float> weights;
};

/// Six steps with an evaluation every second and a checkpoint every third.
Outcome run(const TemporaryDirectory& dir, Script& script, kdlib::RunSettings settings = {.steps = 6}) {
  Model teacher{17, 6, 1}, student{17, 4, 2};
  kdlib::Trainer trainer{student, RaggedDocuments{{}}, kdlib::Objective{Teacher{teacher}, kdlib::ForwardKl{}},
                         kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  settings.save_every = 3;
  settings.evaluate_every = 2;
  settings.evaluate_first = true;
  settings.hooks = &script;
  Outcome out;
  out.result = trainer.run(settings, kdlib::JsonLines{dir / "metrics.jsonl"}, kdlib::Directory{dir.path()});
  out.weights = kdlib_tests::all_values(student);
  return out;
}

std::string different_files(const TemporaryDirectory& a, const TemporaryDirectory& b) {
  return kdlib_tests::differences(kdlib_tests::run_files(a.path()), kdlib_tests::run_files(b.path()));
}
}  // namespace

TEST_CASE("the share of blocks that gradient_threshold leaves out is logged where it is set", "[train]") {
  const TemporaryDirectory dir, other;
  Script script;
  run(dir, script, {.steps = 3, .gradient_threshold = 1e-3});
  CHECK_THAT(kdlib::read_file(dir / "metrics.jsonl"), contains("train/skipped_blocks"));
  run(other, script, {.steps = 3});
  CHECK_THAT(kdlib::read_file(other / "metrics.jsonl"), !contains("train/skipped_blocks"));
  CHECK_THROWS_WITH(run(dir, script, {.steps = 3, .gradient_threshold = 1}), contains("gradient_threshold is 1"));
}

TEST_CASE("a refused resume changes neither metrics nor checkpoints nor the student", "[train]") {
  const TemporaryDirectory dir;
  Script script;
  run(dir, script, {.steps = 3});
  // Steps that no checkpoint holds, as a killed run leaves them: a run that goes on cuts them, a refused one does not.
  const std::string metrics = kdlib::read_file(dir / "metrics.jsonl") + "{\"step\":4,\"train/loss\":1.0}\n";
  kdlib::write_file_atomically(dir / "metrics.jsonl", metrics);
  const auto before = kdlib_tests::run_files(dir.path());
  const auto refused = [&](const char* what, auto&& make_and_run) {
    INFO(what);
    Model teacher{17, 6, 1}, student{17, 4, 2};
    const auto values = kdlib_tests::all_values(student);
    CHECK_THROWS_AS(make_and_run(teacher, student), kdlib::ConfigError);
    CHECK(kdlib_tests::all_values(student) == values);
    CHECK(kdlib::read_file(dir / "metrics.jsonl") == metrics);
    CHECK(kdlib_tests::differences(kdlib_tests::run_files(dir.path()), before).empty());
  };
  const auto try_run = [&](Model& teacher, Model& student, double rate, const char* stage, double threshold = 0) {
    kdlib::Trainer trainer{student, RaggedDocuments{{}}, kdlib::Objective{Teacher{teacher}, kdlib::ForwardKl{}},
                           kdlib::AdamW{}, kdlib::ConstantRate{rate}};
    kdlib::JsonLines sink{dir / "metrics.jsonl"};
    kdlib::Directory store{dir.path()};
    trainer.run({.steps = 9, .gradient_threshold = threshold}, sink, store, kdlib::everything(), {.name = stage});
  };
  refused("another rate", [&](Model& t, Model& s) { try_run(t, s, 0.02, ""); });
  refused("another threshold", [&](Model& t, Model& s) { try_run(t, s, 0.01, "", 1e-3); });
  refused("another stage", [&](Model& t, Model& s) { try_run(t, s, 0.01, "second"); });
  refused("another student", [&](Model& t, Model&) {
    Model wider{17, 5, 2};
    try_run(t, wider, 0.01, "");
  });
}

TEST_CASE("a start over refuses a file that is not of metrics before it removes checkpoints", "[train]") {
  const TemporaryDirectory dir;
  Script script;
  run(dir, script, {.steps = 3});
  kdlib::write_file_atomically(dir / "metrics.jsonl", "a letter\n");
  CHECK_THROWS_AS(run(dir, script, {.steps = 3, .resume = false}), kdlib::FormatError);
  CHECK(kdlib::Directory{dir.path()}.steps() == std::vector<std::int64_t>{3});
}

TEST_CASE("a finished run answers its loss again", "[train]") {
  const TemporaryDirectory dir;
  Script script;
  const Outcome first = run(dir, script), again = run(dir, script);
  CHECK(first.result.loss > 0);
  CHECK(again.result.was_finished);
  CHECK(again.result.loss == first.result.loss);
  CHECK(again.weights == first.weights);
}

TEST_CASE("a stop before the first step leaves one line of step 0 when the run has gone on", "[train]") {
  const TemporaryDirectory whole, dir;
  Script script;
  run(whole, script);
  const std::atomic<bool> stop{true};
  const Outcome stopped = run(dir, script, {.steps = 6, .stop = &stop});
  CHECK(stopped.result.stopped);
  CHECK(stopped.result.step == 0);
  CHECK(kdlib::Directory{dir.path()}.steps() == std::vector<std::int64_t>{0});
  run(dir, script);
  CHECK(different_files(dir, whole).empty());
}

TEST_CASE("a stop within an evaluation is made good when the run goes on", "[train]") {
  const TemporaryDirectory whole;
  Script script;
  const Outcome expected = run(whole, script);
  for (const std::int64_t step : {0, 2, 4, 6}) {
    INFO("stopped while step " << step << " was evaluated");
    const TemporaryDirectory dir;
    Script stopping;
    stopping.stop_in_evaluation = step;
    const Outcome stopped = run(dir, stopping);
    CHECK(stopped.result.stopped);
    CHECK_FALSE(stopped.result.finished);
    CHECK(stopped.result.step == step);
    CHECK(run(dir, stopping).result.step == step);  // stopped at the same place again
    const Outcome done = run(dir, script);
    CHECK(done.result.finished);
    CHECK(done.weights == expected.weights);
    // A stop at step 4 leaves its checkpoint in place of that of step 3; all else is as if nothing had been.
    const std::string differ = different_files(dir, whole);
    CHECK((step == 4 || differ.empty()));
    for (const char* file : {"metrics.jsonl", "best/", "checkpoints/6/"}) CHECK(differ.find(file) == std::string::npos);
  }
}

TEST_CASE("a run that ends for a reason is finished, and a later one trains no step more", "[train]") {
  const TemporaryDirectory dir;
  Script script;
  script.reason_at = 3;
  const Outcome first = run(dir, script);
  CHECK(first.result.finished);
  CHECK(first.result.step == 3);
  CHECK(first.result.finish_reason == "the loss no longer falls");
  CHECK(kdlib::Directory{dir.path()}.latest()->finished);
  Script plain;
  for (const std::int64_t steps : {6, 9}) {
    const Outcome again = run(dir, plain, {.steps = steps});
    CHECK(again.result.was_finished);
    CHECK(again.result.step == 3);
    CHECK(again.result.finish_reason == "the loss no longer falls");
    CHECK(again.weights == first.weights);
  }
}

TEST_CASE("the rule of saving decides which state the student holds at the end and which checkpoints stay", "[train]") {
  Script script;
  script.values[0] = 9, script.values[2] = 2, script.values[4] = 5, script.values[6] = 4;
  const TemporaryDirectory last, best, all;
  const Outcome with_last = run(last, script, {.steps = 6, .keep = 1});
  const Outcome with_best = run(best, script, {.steps = 6, .keep = 1, .save = kdlib::SaveRule::best});
  const Outcome with_all = run(all, script, {.steps = 6, .keep = 1, .save = kdlib::SaveRule::all});
  const TemporaryDirectory two;
  const Outcome second_step = run(two, script, {.steps = 2});
  CHECK(with_last.result.student_step == 6);
  CHECK(with_best.result.student_step == 2);
  CHECK(with_all.result.student_step == 6);
  CHECK(with_best.weights == second_step.weights);
  CHECK_FALSE(with_best.weights == with_last.weights);
  CHECK(with_all.weights == with_last.weights);
  CHECK(kdlib::Directory{last.path()}.steps() == std::vector<std::int64_t>{6});
  CHECK(kdlib::Directory{all.path()}.steps() == std::vector<std::int64_t>{3, 6});
  // The checkpoint holds the last state, so that more steps go on from there; a finished run gives the best again.
  CHECK(different_files(best, last).empty());
  CHECK(run(best, script, {.steps = 6, .keep = 1, .save = kdlib::SaveRule::best}).weights == with_best.weights);
  const Outcome more = run(best, script, {.steps = 8}), more_of_last = run(last, script, {.steps = 8});
  CHECK(more.weights == more_of_last.weights);
}

TEST_CASE("the best state needs somebody who chooses it and a store that keeps it", "[train]") {
  Model teacher{17, 6, 1}, student{17, 4, 2};
  kdlib::Trainer trainer{student, RaggedDocuments{{}}, kdlib::Objective{Teacher{teacher}, kdlib::ForwardKl{}},
                         kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
  Script script;
  CHECK_THROWS_WITH(trainer.run({.steps = 1, .save = kdlib::SaveRule::best}), contains("nothing chooses it"));
  CHECK_THROWS_WITH(trainer.run({.steps = 1, .save = kdlib::SaveRule::best, .evaluate_every = 1, .hooks = &script}),
                    contains("keeps no best state"));
  const TemporaryDirectory dir;
  script.values.assign(64, std::numeric_limits<double>::quiet_NaN());
  const Outcome none = run(dir, script, {.steps = 2, .save = kdlib::SaveRule::best});
  CHECK(none.result.student_step == 2);
  CHECK_THAT(none.result.messages.at(0), contains("no evaluation has chosen a best state"));
}

TEST_CASE("a damaged newest checkpoint is told and the run goes on from the one before", "[train]") {
  const TemporaryDirectory whole, dir;
  Script script;
  const Outcome expected = run(whole, script);
  run(dir, script);
  const std::string file = dir / "checkpoints/6/optimizer.safetensors";
  std::string bytes = kdlib::read_file(file);
  bytes[bytes.size() - 2] = static_cast<char>(bytes[bytes.size() - 2] ^ 16);
  kdlib::write_file_atomically(file, bytes);
  const Outcome again = run(dir, script);
  CHECK(again.result.resumed_from == 3);
  CHECK(again.weights == expected.weights);
  std::string told;
  for (const std::string& text : script.messages) told += text + "\n";
  CHECK_THAT(told, contains("checkpoint 6 is damaged") && contains("optimizer.safetensors") &&
                       contains("goes on from step 3"));
  CHECK(kdlib::list_directory(dir / "checkpoints") == std::vector<std::string>{"3", "6", "6.damaged"});
  kdlib::remove_tree(dir / "checkpoints/6.damaged");
  CHECK(different_files(dir, whole).empty());
}

TEST_CASE("a stage that ended for a reason is followed by the next one, also after a stop there", "[train]") {
  const auto run_two = [](const TemporaryDirectory& dir, const std::atomic<bool>* stop) {
    Model teacher{17, 6, 1}, student{17, 4, 2};
    const kdlib::Objective objective{Teacher{teacher}, kdlib::ForwardKl{}};
    Script script;
    script.reason_at = 2;
    kdlib::Trainer one{student, RaggedDocuments{{}}, objective, kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
    kdlib::Trainer two{student, RaggedDocuments{{.seed = 2}}, objective, kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
    kdlib::Pipeline stages{kdlib::TrainStage{"first", one, {.steps = 5, .hooks = &script}, kdlib::only("head.*")},
                           kdlib::TrainStage{"second", two, {.steps = 3, .stop = stop}, kdlib::everything()}};
    const auto results = stages.run(kdlib::JsonLines{dir / "metrics.jsonl"}, kdlib::Directory{dir.path()});
    CHECK(results.back().step == (stop != nullptr && stop->load() ? 2 : 5));
    return kdlib_tests::all_values(student);
  };
  const TemporaryDirectory whole, dir;
  const auto expected = run_two(whole, nullptr);
  const std::atomic<bool> stop{true};
  run_two(dir, &stop);
  CHECK(run_two(dir, nullptr) == expected);
  CHECK(run_two(dir, nullptr) == expected);  // finished: found as such
}

TEST_CASE("the spread of values is that of one pass over all rows, however they are cut", "[train]") {
  // Values 1, 2, 4 of weights 1, 1, 2: mean 11/4, variance (49/16 + 9/16 + 2 * 25/16) / 4 = 27/16.
  kdlib::RowSpread whole, left, right;
  whole.add(1, 1), whole.add(2, 1), whole.add(4, 2);
  left.add(1, 1), right.add(2, 1), right.add(4, 2);
  left += right;
  left += kdlib::RowSpread{};
  for (const kdlib::RowSpread& s : {whole, left}) {
    CHECK(kdlib_tests::near(s.mean, 2.75, kdlib_tests::Tolerance<double>::elementwise));
    CHECK(kdlib_tests::near(s.deviation(), std::sqrt(27.0 / 16), kdlib_tests::Tolerance<double>::elementwise));
    CHECK(s.least == 1);
    CHECK(s.most == 4);
    CHECK(s.weight == 4);
  }
  CHECK(kdlib::RowSpread{}.deviation() == 0);
}

TEST_CASE("a step reports how KL is spread over its rows, the same for any split into micro-batches", "[train]") {
  Model teacher{17, 6, 1}, student{17, 4, 2};
  Teacher rows_of{teacher};
  RaggedDocuments source{{.documents = 2}};
  // The same rows one by one, from the row values of the plain forward KL before any update.
  std::vector<double> values;
  for (int b = 0; b < 3; ++b) {
    const kdlib::TokenBatch batch = source.batch(b);
    const auto rows = batch.rows();
    rows_of.prepare(batch);
    kdlib::RowBuffer<float, kdlib::Cpu> buffer;
    const auto count = static_cast<std::int64_t>(rows.token.size());
    const auto hidden = student.forward(batch);
    const auto result =
        kdlib::head_loss(kdlib::ForwardKl{}, student.head(), buffer.gather(hidden.view(), rows.token),
                         rows_of.targets(0, count), {rows.label, rows.weight}, 1.0, kdlib::View<float, kdlib::Cpu>{},
                         static_cast<kdlib::Parameter<float, kdlib::Cpu>*>(nullptr), {.row_values = true});
    values.insert(values.end(), result.row_values.begin(), result.row_values.end());
  }
  double mean = 0, squares = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean) / static_cast<double>(values.size());
  kdlib::Trainer trainer{student, source, kdlib::Objective{Teacher{teacher}, kdlib::ForwardKl{}}, kdlib::AdamW{},
                         kdlib::ConstantRate{0.01}};
  kdlib::MemoryMetrics metrics;
  trainer.run({.steps = 1, .micro_batches = 3}, metrics);
  const double tolerance = kdlib_tests::Tolerance<float>::elementwise;
  CHECK(kdlib_tests::near(metrics.series("train/kl_std").at(0).second, std::sqrt(squares), tolerance));
  CHECK(kdlib_tests::near(metrics.series("train/kl_min").at(0).second, *std::min_element(values.begin(), values.end()),
                          tolerance));
  CHECK(kdlib_tests::near(metrics.series("train/kl_max").at(0).second, *std::max_element(values.begin(), values.end()),
                          tolerance));
  CHECK(kdlib_tests::near(metrics.series("train/forward_kl").at(0).second, mean, tolerance));
}

TEST_CASE("a sink gets a flush behind the scalars of each step and no other", "[train]") {
  const auto calls_of = [](std::int64_t batches, kdlib::RunSettings settings) {
    Model teacher{17, 6, 1}, student{17, 4, 2};
    kdlib::Trainer trainer{student, RaggedDocuments{{.batches = batches}},
                           kdlib::Objective{Teacher{teacher}, kdlib::ForwardKl{}}, kdlib::AdamW{},
                           kdlib::ConstantRate{0.01}};
    Script script;
    settings.hooks = &script;
    WrittenCalls sink;
    const TemporaryDirectory dir;
    trainer.run(settings, sink, kdlib::Directory{dir.path()});
    return sink.calls;
  };
  using Calls = std::vector<std::string>;
  // Checkpoints are saved after each step and at the end.
  CHECK(calls_of(9, {.steps = 2, .save_every = 1}) == Calls{"rewind -1", "scalars 1", "flush", "scalars 2", "flush"});
  CHECK(calls_of(9, {.steps = 1, .evaluate_every = 1, .evaluate_first = true}) ==
        Calls{"rewind -1", "scalars 0", "flush", "scalars 1", "flush"});
  // The source ends after one step of three: the last evaluation belongs to that step, behind its flush.
  CHECK(calls_of(1, {.steps = 3, .evaluate_every = 2}) ==
        Calls{"rewind -1", "scalars 1", "flush", "scalars 1", "flush"});
}
