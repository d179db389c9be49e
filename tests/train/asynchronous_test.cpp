// SPDX-License-Identifier: Apache-2.0
// Text that the student writes and a teacher scores while the student trains, through the ordinary Trainer: what the
// loss and the metrics of docs/formats.md ("Rollouts in checkpoints") come to, and that a run that was cut off goes on
// with the same bits. Expected numbers follow from identities: without updates every ratio is 1, and the loss of a span
// is minus its gap.
#include <algorithm>
#include <cmath>
#include <map>

#include "data/toy_harmony.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/loss/anchored_policy_gradient.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/rollout/asynchronous.hpp"
#include "kdlib/teacher/scored.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

using Model = ToyModel<float>;
using Source = AsynchronousRollouts<Model>;
static_assert(RolloutSource<Source, Model>);

/// Cuts the run off behind a step, saves rollouts beside checkpoints and takes them over.
struct Hooks : RunHooks {
  Source* source = nullptr;
  std::string folder;
  std::int64_t cut_at = -1;
  void on_start(std::int64_t step, std::int64_t) override {
    if (step > 0) source->restore(folder + "/checkpoints/" + std::to_string(step));
  }
  void on_step(const StepReport& report) override {
    if (report.step == cut_at) throw std::runtime_error("cut off");
  }
  void write_files(const std::string& at, std::int64_t, bool best) override {
    if (!best) source->save(at);
  }
};

struct Run {
  PlanBufferSettings plans{.staleness = 1, .anchor_share = 0.34, .deterministic = true};
  double rate = 0.01;
  std::int64_t micro_batches = 1, steps = 9, cut_at = -1;
};

std::vector<double> scores(Model& model, std::span<const std::int32_t> ids) {
  TokenBatch batch;
  batch.append(ids);
  return token_log_probs(model, batch);
}

/// Trains a fresh student in `folder`; answers its parameters and how many tickets were opened.
std::vector<float> train(const ToyRows& rows, const std::string& folder, const Run& run,
                         std::int64_t* tickets = nullptr) {
  const std::int64_t v = rows.vocabulary();
  Model student(v, 4, 3, 0.5), writer(v, 4, 3, 0.5), teacher(v, 4, 7, 0.5);
  const auto scored = std::make_shared<ScoredTexts>();
  AsynchronousSettings settings;
  settings.plans = run.plans;
  settings.curriculum.rollouts = 4;
  settings.curriculum.caps = {3, 4, 5};
  settings.curriculum.tokens = 60;
  settings.micro_batches = run.micro_batches;
  Source source(
      writer, [&teacher](std::span<const std::int32_t> ids) { return scores(teacher, ids); },
      IndexedDataset(rows.files(), {.tokens = 200}), RolloutForm::harmony(toy_harmony()), scored, settings);
  Hooks hooks;
  hooks.source = &source;
  hooks.folder = folder;
  hooks.cut_at = run.cut_at;
  Trainer trainer{student, source, Objective{ScoredTeacher{scored, v}, AnchoredPolicyGradient{}}, AdamW{},
                  ConstantRate{run.rate}};
  RunSettings how{.steps = run.steps,
                  .micro_batches = run.micro_batches,
                  .save_every = 2,
                  .spans = {{"reasoning", 1}, {"final", 1}},
                  .hooks = &hooks};
  trainer.run(how, JsonLines{folder + "/metrics.jsonl"}, Directory{folder});
  if (tickets != nullptr) *tickets = source.buffer().next_ticket();
  return all_values(student);
}

/// The metrics of each step by name.
std::vector<std::map<std::string, double>> metrics_of(const std::string& folder) {
  std::vector<std::map<std::string, double>> out;
  JsonlReader reader(folder + "/metrics.jsonl");
  while (const auto line = reader.next()) {
    auto& step = out.emplace_back();
    for (const auto& member : line->members()) step[std::string(member.key)] = member.value.as_double();
  }
  return out;
}

double texts_of(const std::map<std::string, double>& step) {
  double texts = 0;
  for (const char* mode : {"low", "medium", "high"})
    if (const auto at = step.find(std::string("curriculum/") + mode); at != step.end()) texts += at->second;
  return texts;
}

}  // namespace

TEST_CASE("stage 3: without updates ratios are 1 and a span's loss is minus its gap; anchor steps are cross-entropy",
          "[train][reasoning]") {
  const ToyRows rows(12);
  for (const std::int64_t micro_batches : {1, 2}) {
    CAPTURE(micro_batches);
    const TemporaryDirectory folder;
    train(rows, folder.path(), {.rate = 1e-30, .micro_batches = micro_batches});
    Model student(rows.vocabulary(), 4, 3, 0.5);
    IndexedDataset anchor(rows.files(), {.tokens = 200});
    std::string kinds;
    for (auto& m : metrics_of(folder.path())) {
      const bool own = m.at("train/kind") == 1;
      kinds += own ? 'o' : 'A';
      if (own) {
        CHECK(m.at("train/ratio") == Approx(1).epsilon(1e-5));
        CHECK(std::abs(m.at("train/mismatch")) < 1e-5);
        CHECK(m.at("train/loss/reasoning") == Approx(-m.at("train/gap/reasoning")).epsilon(1e-4));
        CHECK(m.at("train/clamp_fraction") == 0);
        CHECK(texts_of(m) == 4);
        continue;
      }
      CHECK(m.count("train/gap/reasoning") + m.count("rollout/valid") == 0);
      double sum = 0, count = 0;
      for (std::int64_t b = 0; b < micro_batches; ++b) {
        REQUIRE(anchor.next());
        for (const StoredDocument& d : anchor.last_documents()) {
          const std::vector<double> log_probs = scores(student, d.ids);
          for (std::size_t t = 0; t + 1 < d.ids.size(); ++t)
            if (d.span[t] == 1) sum -= log_probs[t], count += 1;
        }
      }
      CHECK(m.at("train/tokens/reasoning") == count);
      CHECK(m.at("train/loss/reasoning") == Approx(sum / count).epsilon(1e-5));
    }
    CHECK(kinds == "ooAooAooA");
  }
}

TEST_CASE("stage 3 cut off anywhere goes on with the same bits, from weights of the version before, in groups of two",
          "[train][reasoning]") {
  const ToyRows rows(12);
  const TemporaryDirectory whole, cut;
  std::int64_t tickets = 0;
  Run run;
  const std::vector<float> expected = train(rows, whole.path(), run, &tickets);
  const auto metrics = metrics_of(whole.path());
  REQUIRE(metrics.size() == 9);
  std::int64_t expected_tickets = 2;  // of the plan of step 9, which is open at the end
  for (std::size_t k = 0; k < metrics.size(); ++k) {
    const auto& m = metrics[k];
    if (m.at("train/kind") != 1) continue;
    CHECK(texts_of(m) == 4);
    expected_tickets += m.at("curriculum/fraction") < 0.66 ? 4 : 2;  // from there on a prompt has two texts
    CHECK(m.at("buffer/staleness") == (k == 0 ? 0 : 1));
    CHECK(m.at("rollout/valid") == 0);  // random ids, five at most
    CHECK(m.at("rollout/truncated") > 0);
    CHECK(std::isfinite(m.at("train/loss")));
  }
  CHECK(metrics[7].at("curriculum/fraction") > 0.66);
  CHECK(tickets == expected_tickets);
  for (const std::int64_t at : {1, 5, 6, 8}) {
    run.cut_at = at;
    CHECK_THROWS_WITH(train(rows, cut.path(), run), contains("cut off"));
  }
  run.cut_at = -1;
  CHECK(train(rows, cut.path(), run) == expected);
  CHECK(differences(run_files(cut.path()), run_files(whole.path())) == "");
  // As fast as it comes: the same number of texts, none too old.
  const TemporaryDirectory free;
  train(rows, free.path(), {.plans = {.staleness = 2, .sync_every = 2, .anchor_share = 0.34}});
  for (const auto& m : metrics_of(free.path()))
    if (m.at("train/kind") == 1) CHECK(m.at("buffer/staleness") <= 2);
}

TEST_CASE("scored rows are a policy gradient whose ratio is cut at 5, unscored ones cross-entropy",
          "[train][reasoning]") {
  const AnchoredPolicyGradient loss;
  LabelPoint point;
  point.log_prob = {-2, 1};
  point.teacher_log_prob = static_cast<double>(unscored_row);
  point.behaviour_log_prob = -9;
  point.has_behaviour = true;
  CHECK(loss.at_label(point).value == 2);
  CHECK(loss.at_label(point).derivative == -1);
  CHECK_FALSE(loss.clamped(point));
  point.teacher_log_prob = -3;  // A = -1, and e^7 is cut
  CHECK(loss.at_label(point).value == Approx(5));
  CHECK(loss.at_label(point).derivative == Approx(5));
  CHECK(loss.clamped(point));
  point.behaviour_log_prob = -2.5;
  CHECK(loss.at_label(point).derivative == Approx(std::exp(0.5)));
  CHECK_FALSE(loss.clamped(point));
}

TEST_CASE("rollouts refuse files without modes, prompts that are too long, cursors and batches of others",
          "[train][reasoning]") {
  const ToyRows rows(4);
  const RolloutForm form = RolloutForm::harmony(toy_harmony());
  CHECK_THROWS_WITH(RolloutPrompts(rows.files(), form.prompt_end, 5), contains("at most 5 tokens"));
  const RolloutPrompts prompts(rows.files(), form.prompt_end, 1024);
  const std::vector<std::int32_t> low = prompts.at(0, ReasoningMode::low), high = prompts.at(0, ReasoningMode::high);
  REQUIRE(low.size() == high.size());
  int differing = 0;
  for (std::size_t i = 0; i < low.size(); ++i) differing += low[i] != high[i] ? 1 : 0;
  CHECK(differing == 1);
  CHECK_THAT(toy_harmony().decode(low), contains("Reasoning: low") && contains("<|start|>assistant"));
  const auto scored = std::make_shared<ScoredTexts>();
  ScoredTeacher teacher{scored, rows.vocabulary()};
  TokenBatch batch;
  batch.append(low);
  batch.sources = {"elsewhere"};
  scored->begin_step(true);
  CHECK_THROWS_WITH(teacher.prepare(batch), contains("nothing is known of 'elsewhere'"));
  scored->add("elsewhere", {-1.0f});
  CHECK_THROWS_WITH(teacher.prepare(batch), contains("1 were scored"));
  Model writer(rows.vocabulary(), 4, 3, 0.5);
  Source source(writer, {}, IndexedDataset(rows.files(), {.tokens = 200}), form, scored);
  CHECK_THROWS_WITH(source.seek("indexed 1 2"), contains("no place in rollouts"));
  // The answer is the first message on final, with its header and its end.
  std::vector<std::int32_t> text = toy_harmony().encode(
      "<|channel|>analysis<|message|>Add.<|end|>"
      "<|start|>assistant<|channel|>final<|message|>3<|return|>");
  CHECK(form.valid(text));
  const std::vector<std::int32_t> spans = form.spans(text);
  // <|start|> assistant <|channel|> final <|message|> 3 <|return|>
  CHECK(std::count(spans.begin(), spans.end(), 1) == 7);
  text.pop_back();
  CHECK_FALSE(form.valid(text));
}
