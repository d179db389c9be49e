// SPDX-License-Identifier: Apache-2.0
// Training on rows of thoughts through the ordinary Trainer: cross-entropy by spans, and weighted by a teacher's
// confidence. The expected losses are worked out here, token by token, from the student's log-probabilities and the
// formulas of docs/formats.md ("Token files", "Rescored parts").
#include <array>
#include <cmath>
#include <map>

#include "data/toy_harmony.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/communicator.hpp"
#include "kdlib/data/rescored_mix.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/teacher/none.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

using Model = ToyModel<float>;

/// Log-probabilities of a step's tokens by span, from the stored documents themselves.
struct StepRows {
  std::array<std::vector<double>, 2> student, teacher;

  void add(Model& student_model, const IndexedDataset& source) {
    for (const StoredDocument& d : source.last_documents()) {
      TokenBatch one;
      one.append(d.ids);
      const std::vector<double> log_probs = token_log_probs(student_model, one);
      for (std::size_t t = 0; t + 1 < d.ids.size(); ++t) {
        if (d.loss[t] == 0) continue;
        const std::size_t s = d.span[t] == 2 ? 1 : 0;
        student[s].push_back(log_probs[t]);
        if (!d.log_probs.empty()) teacher[s].push_back(static_cast<double>(d.log_probs[t]));
      }
    }
  }
  double cross_entropy(std::size_t s) const {
    double sum = 0;
    for (const double x : student[s]) sum -= x;
    return sum / static_cast<double>(student[s].size());
  }
  /// The weights are factors of the sum and not of the count.
  double weighted(std::size_t s, double center) const {
    double sum = 0;
    for (std::size_t i = 0; i < student[s].size(); ++i)
      sum -= student[s][i] * std::exp(std::clamp(teacher[s][i] - center, std::log(0.25), std::log(4.0)));
    return sum / static_cast<double>(student[s].size());
  }
};

struct CutOff : RunHooks {
  std::int64_t step = -1;
  void on_step(const StepReport& report) override {
    if (report.step == step) throw std::runtime_error("cut off");
  }
};

struct Run {
  double share = 0.65;
  std::int64_t micro_batches = 1;
  double rate = 1e-30;  // moves no float: every step has the student that the test computes with
  std::int64_t steps = 6, cut_at = -1;
  std::vector<Span> spans{{"reasoning", 0.8}, {"final", 1.2}};
  RankSettings ranks{};
};

/// Trains a fresh student in `folder` and answers its parameters.
std::vector<float> train(const ToyRows& rows, const std::string& folder, const Run& run) {
  Model student(rows.vocabulary(), 4, 3, 0.5);
  CutOff hooks;
  hooks.step = run.cut_at;
  Trainer trainer{student,
                  RescoredMix(IndexedDataset(rows.files(), {.tokens = 300}),
                              IndexedDataset(rows.parts(), {.tokens = 300, .seed = 2}),
                              {.share = run.share, .micro_batches = run.micro_batches}),
                  Objective{NoTeacher{rows.vocabulary()}, CrossEntropy{}}, AdamW{}, ConstantRate{run.rate}};
  const RunSettings settings{.steps = run.steps,
                             .micro_batches = run.micro_batches,
                             .save_every = 2,
                             .spans = run.spans,
                             .hooks = &hooks,
                             .ranks = run.ranks};
  trainer.run(settings, JsonLines{folder + "/metrics.jsonl"}, Directory{folder});
  return all_values(student);
}

}  // namespace

TEST_CASE("stage 1: each span's cross-entropy is a mean over all its tokens of the step, in any micro-batches",
          "[train][reasoning]") {
  const ToyRows rows(12);
  const TemporaryDirectory folder;
  train(rows, folder.path(), {.share = 0, .micro_batches = 2, .steps = 3});
  Model student(rows.vocabulary(), 4, 3, 0.5);
  IndexedDataset source(rows.files(), {.tokens = 300});
  const auto metric = [&](const char* name, std::size_t step) { return metric_of_run(folder.path(), name).at(step); };
  for (std::size_t k = 0; k < 3; ++k) {
    StepRows step;
    for (int m = 0; m < 2; ++m) {
      REQUIRE(source.next());
      step.add(student, source);
    }
    CHECK(metric("train/tokens/reasoning", k) == static_cast<double>(step.student[0].size()));
    CHECK(metric("train/tokens/final", k) == static_cast<double>(step.student[1].size()));
    CHECK(metric("train/loss/reasoning", k) == Approx(step.cross_entropy(0)).epsilon(1e-5));
    CHECK(metric("train/loss/final", k) == Approx(step.cross_entropy(1)).epsilon(1e-5));
    CHECK(metric("train/loss", k) == Approx(0.8 * step.cross_entropy(0) + 1.2 * step.cross_entropy(1)).epsilon(1e-5));
    CHECK(metric("train/kind", k) == 0);
  }
}

TEST_CASE("stage 2: rescored steps weigh tokens around a running mean that is frozen for the step",
          "[train][reasoning]") {
  const ToyRows rows(12);
  const TemporaryDirectory folder;
  train(rows, folder.path(), {.micro_batches = 2});
  Model student(rows.vocabulary(), 4, 3, 0.5);
  IndexedDataset plain(rows.files(), {.tokens = 300}), scored(rows.parts(), {.tokens = 300, .seed = 2});
  double sum = 0, count = 0;
  std::string kinds;
  std::size_t rescored = 0;
  const auto metric = [&](const char* name, std::size_t step) { return metric_of_run(folder.path(), name).at(step); };
  for (std::size_t k = 0; k < 6; ++k) {
    const bool is_rescored = metric("train/kind", k) == 1;
    kinds += is_rescored ? 'R' : 'v';
    IndexedDataset& source = is_rescored ? scored : plain;
    StepRows step;
    for (int m = 0; m < 2; ++m) {
      REQUIRE(source.next());
      step.add(student, source);
    }
    double expected[2] = {step.cross_entropy(0), step.cross_entropy(1)};
    if (is_rescored) {
      for (const auto& span : step.teacher)
        for (const double x : span) sum += x, count += 1;
      for (std::size_t s = 0; s < 2; ++s) expected[s] = step.weighted(s, sum / count);
      CHECK(metric("train/confidence_center", rescored) == Approx(sum / count).epsilon(1e-9));
      ++rescored;
    }
    CAPTURE(k);
    CHECK(metric("train/loss/reasoning", k) == Approx(expected[0]).epsilon(1e-5));
    CHECK(metric("train/loss/final", k) == Approx(expected[1]).epsilon(1e-5));
    CHECK(metric("train/loss", k) == Approx(0.8 * expected[0] + 1.2 * expected[1]).epsilon(1e-5));
  }
  CHECK(kinds == "vRvRRv");
  CHECK(metric_of_run(folder.path(), "train/confidence_center").size() == 3);
}

TEST_CASE("stage 2 that was cut off goes on with the same weights of rows and the same bits", "[train][reasoning]") {
  const ToyRows rows(12);
  const TemporaryDirectory whole, cut;
  Run run{.rate = 0.01, .steps = 9};
  const std::vector<float> expected = train(rows, whole.path(), run);
  for (const std::int64_t at : {3, 5, 8}) {
    run.cut_at = at;
    CHECK_THROWS_WITH(train(rows, cut.path(), run), contains("cut off"));
  }
  run.cut_at = -1;
  CHECK(train(rows, cut.path(), run) == expected);
  CHECK(differences(run_files(cut.path()), run_files(whole.path())) == "");
  const std::vector<double> loss = metric_of_run(whole.path(), "train/loss/final");
  CHECK(loss.back() < loss.front());
}

TEST_CASE("a source that weighs rows needs spans and one rank", "[train][reasoning]") {
  const ToyRows rows(4);
  const TemporaryDirectory folder;
  CHECK_THROWS_WITH(train(rows, folder.path(), {.spans = {}}), contains("name them in RunSettings::spans"));
  const RankSettings two{.communicator = AnyCommunicator(ThreadCommunicator::make(2)[0])};
  CHECK_THROWS_WITH(train(rows, folder.path(), {.ranks = two}), contains("each of 2 ranks has some of them"));
  // One rank that adds micro-batches as several would weighs them all.
  const TemporaryDirectory plain, tree;
  train(rows, plain.path(), {.micro_batches = 2, .steps = 3});
  train(rows, tree.path(), {.micro_batches = 2, .steps = 3, .ranks = {.reduce = Reduction::tree}});
  const auto of_plain = metric_of_run(plain.path(), "train/loss"), of_tree = metric_of_run(tree.path(), "train/loss");
  REQUIRE(of_tree.size() == 3);
  for (std::size_t k = 0; k < 3; ++k) CHECK(of_tree[k] == Approx(of_plain[k]).epsilon(1e-6));
}
