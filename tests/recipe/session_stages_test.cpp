// SPDX-License-Identifier: Apache-2.0
// Sessions in stages: what each stage trains, one count of steps, resumed anywhere to the same bytes, refusals.
#include <functional>

#include "kdlib/io/jsonl.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/sessions.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::differences;
using kdlib_tests::reference_file;
using kdlib_tests::TemporaryDirectory;
using Toy = Session<Cpu, float>;

namespace {

/// Given text, and a student that is a copy of the teacher beside another seed's adapter.
struct Job {
  TemporaryDirectory dir;

  Job() {
    write_file_atomically(dir / "data.jsonl", lines(0, 11));
    write_file_atomically(dir / "validation.jsonl", lines(100, 4));
  }
  static std::string lines(int first, int count) {
    std::string out;
    for (int i = first; i < first + count; ++i)
      out += concat("{\"ids\": [1, ", 10 + i, ", ", 40 + 3 * i % 200, ", ", 7 + i % 50, ", ", 90 + 7 * i % 90, "]}\n");
    return out;
  }
  RecipeSettings settings(std::vector<RecipeStage> stages) const {
    RecipeSettings s;
    s.models.teacher = reference_file("models/llama");
    s.models.student = reference_file("models/llama3_rope_bias");
    s.student.rounded = false;
    s.student.adapter.rank = 4;
    s.text.data.path = dir / "data.jsonl";
    s.text.validation.path = dir / "validation.jsonl";
    s.training.batch = 2;
    s.training.warmup = 0;
    s.training.weight_decay = 0.01;
    s.training.stages = std::move(stages);
    s.output.folder = dir / "out";
    s.output.save_every = 2;
    s.output.evaluate_every = 0;
    return s;
  }
  /// The second factors alone for 3 steps, then everything for a pass over the 11 texts (6 steps).
  static std::vector<RecipeStage> two() {
    return {{.name = "second factors",
             .steps = 3,
             .groups = {.list = {{"lora_B", 1}, {".*", 0}}},
             .learning_rate = 2e-3,
             .schedule = RecipeSchedule::constant},
            {.name = "all",
             .epochs = 1,
             .groups = {.list = {{"lora_A.*", 0.5}}},
             .learning_rate = 1e-3,
             .schedule = RecipeSchedule::linear,
             .warmup = 2}};
  }
  /// What two equal runs have in common: times and the folder's name taken out.
  std::map<std::string, std::string> files() const {
    auto all = kdlib_tests::run_files(dir / "out");
    all.erase("config.yaml");
    const RecipeResult result = read_result_json(dir / "out/result.json");
    all["result.json"].clear();
    for (const EvaluationRow& row : result.rows)
      all["result.json"] +=
          concat(row.model, " ", kdlib_tests::exact(row.forward_kl), " ", kdlib_tests::exact(row.perplexity), "\n");
    all.erase("before.json");
    for (auto& [name, text] : all) {
      if (name.find("checksums.json") != std::string::npos) text = "sums";
      for (std::size_t at = text.find(dir.path()); at != std::string::npos; at = text.find(dir.path()))
        text.replace(at, dir.path().size(), "DIR");
    }
    return all;
  }
};

/// Asks its session to stop after a step.
class StopAfter final : public SessionEvents {
 public:
  explicit StopAfter(std::int64_t step = -1) : step_(step) {}
  Toy* session = nullptr;
  std::vector<std::string> notes;
  std::int64_t told_steps = 0;
  void on_note(const std::string& text) override { notes.push_back(text); }
  void on_step(const StepReport& report) override {
    told_steps = report.steps;
    if (report.step == step_) session->request_stop();
  }

 private:
  std::int64_t step_;
};

std::string refusal(const RecipeSettings& settings) {
  try {
    Toy(settings).run();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

const std::map<std::string, std::string>& undisturbed() {
  static const std::map<std::string, std::string> files = [] {
    const Job job;
    REQUIRE(Toy(job.settings(Job::two())).run().finished);
    return job.files();
  }();
  return files;
}

std::string all_text(const std::vector<std::string>& notes) {
  std::string out;
  for (const std::string& note : notes) out += note + "\n";
  return out;
}

}  // namespace

TEST_CASE("a session in stages counts steps through, with each stage's rate, and measures after each stage",
          "[recipe][session][stages]") {
  const Job job;
  StopAfter sink;
  Toy session(job.settings(Job::two()), &sink);
  sink.session = &session;
  const SessionOutcome outcome = session.run();
  CHECK(outcome.finished);
  CHECK(outcome.step == 9);
  CHECK(sink.told_steps == 9);
  std::vector<double> rates;
  JsonlReader reader(job.dir / "out/metrics.jsonl");
  while (const auto line = reader.next())
    if (const auto rate = line->find("train/rate")) rates.push_back(rate->as_double());
  REQUIRE(rates.size() == 9);
  for (int i = 0; i < 3; ++i) CHECK(rates[static_cast<std::size_t>(i)] == 2e-3);
  CHECK(rates[3] == 0.5e-3);  // the second stage warms up again over 2 steps
  CHECK(rates[4] == 1e-3);
  CHECK(rates[8] == Approx(1e-3 / 4));
  std::vector<std::string> rows;
  for (const EvaluationRow& row : outcome.result.rows) rows.push_back(row.model);
  CHECK(rows == std::vector<std::string>{"teacher", "student before", "after second factors", "distilled"});
  const std::string told = all_text(sink.notes);
  CHECK_THAT(told, contains("stage second factors: 3 steps") && contains("stage all: 6 steps") &&
                       contains("stage second factors: .*: frozen") &&
                       contains("stage all: all other parameters: rate x 1"));
}

TEST_CASE("parameters of rate 0 keep their bits, and a multiplier is one of the rate", "[recipe][session][stages]") {
  const Job job;
  using Model = Decoder<Cpu, float>;
  auto fresh = Model::from_pretrained(reference_file("models/llama3_rope_bias"));
  add_lora(fresh, job.settings({}).adapter());
  const auto changed = [&](Model& model, const char* part) {
    double most = 0;
    for (Parameter<float, Cpu>* p : model.parameters()) {
      if (p->name.find(part) == std::string::npos) continue;
      const Parameter<float, Cpu>* before = fresh.find_parameter(p->name);
      for (std::int64_t i = 0; i < p->value.count(); ++i)
        most = std::max<double>(most, std::abs(p->value.data()[i] - before->value.data()[i]));
    }
    return most;
  };
  RecipeSettings one = job.settings({Job::two().front()});
  one.training.weight_decay = 0;
  Toy session(one);
  REQUIRE(session.run().finished);
  CHECK(changed(*session.student(), "lora_A") == 0);
  CHECK(changed(*session.student(), "lora_B") > 1e-3);
  CHECK(changed(*session.student(), "mlp.up_proj.weight") == 0);

  // One step of Adam moves by the rate, whatever the gradient is: groups of a run without stages, as multiples of it.
  RecipeSettings groups = job.settings({});
  groups.output.resume = RecipeResume::no;
  groups.training.weight_decay = 0;
  groups.training.steps = 1;
  groups.training.clip = 0;
  groups.training.schedule = RecipeSchedule::constant;
  groups.training.groups = {.list = {{"q_proj.*lora_B", 0.25}}, .default_rate = 0};
  Toy quarter(groups);
  REQUIRE(quarter.run().finished);
  CHECK(changed(*quarter.student(), "q_proj.lora_B") == Approx(0.25e-3).epsilon(1e-3));
  CHECK(changed(*quarter.student(), "k_proj.lora_B") == 0);
}

TEST_CASE("a session in stages that is stopped after any step ends with the bytes of one that was not",
          "[recipe][session][stages]") {
  for (const std::int64_t step : {1, 2, 3, 4, 5, 7, 9}) {
    CAPTURE(step);
    const Job job;
    {
      StopAfter sink(step);
      Toy session(job.settings(Job::two()), &sink);
      sink.session = &session;
      CHECK(session.run().stopped);
    }
    CHECK(Toy(job.settings(Job::two())).run().finished);
    CHECK(differences(job.files(), undisturbed()) == "");
  }
}

TEST_CASE("the text goes on into the next stage, or begins again where the stage says so",
          "[recipe][session][stages]") {
  const auto losses = [](bool restart) {
    const Job job;
    RecipeStage one{.name = "one", .steps = 2, .learning_rate = 1e-30, .schedule = RecipeSchedule::constant}, two = one;
    two.name = "two";
    two.restart_text = restart;
    REQUIRE(Toy(job.settings({one, two})).run().finished);
    std::vector<double> out;
    JsonlReader reader(job.dir / "out/metrics.jsonl");
    while (const auto line = reader.next())
      if (const auto loss = line->find("train/loss")) out.push_back(loss->as_double());
    REQUIRE(out.size() == 4);
    return out;
  };
  const auto again = losses(true), on = losses(false);  // a rate of 1e-30 changes no rounding
  CHECK(again[2] == again[0]);
  CHECK(again[3] == again[1]);
  CHECK(on[0] == again[0]);
  CHECK(on[2] != on[0]);
}

TEST_CASE(
    "stages that train nothing, patterns that fit nothing and changed stages are refused before the folder is "
    "touched",
    "[recipe][session][stages]") {
  const Job job;
  auto stages = Job::two();
  stages[1].groups = {.list = {{"mlp.up_proj.weight", 1}}};  // not trained: an adapter is
  RecipeSettings s = job.settings(stages);
  s.training.stages_file = job.dir / "S.yaml";
  CHECK_THAT(refusal(s), contains("S.yaml: stage 'all': the pattern mlp.up_proj.weight fits none of the ") &&
                             contains("parameters that this run may train; the nearest are base_model"));
  stages[1].groups = {.list = {{".*", 0}}};
  CHECK_THAT(refusal(job.settings(stages)), contains("stages: stage 'all' trains nothing: the rate of all "));
  RecipeSettings both = job.settings(Job::two());
  both.training.groups = {.list = {{"lora_A", 1}}};
  CHECK_THAT(refusal(both), contains("--groups and --stages are both given"));
  CHECK_FALSE(path_exists(job.dir / "out"));

  StopAfter sink(4);
  Toy session(job.settings(Job::two()), &sink);
  sink.session = &session;
  CHECK(session.run().stopped);
  stages = Job::two();
  stages[0].learning_rate = 3e-3;
  CHECK_THAT(refusal(job.settings(stages)),
             contains("[resume] stages was second factors: 3 steps") && contains("rate 0.003"));
  stages = Job::two();
  stages[1].name = "rest";
  CHECK_THAT(refusal(job.settings(stages)), contains("of stage 'all', the stages here are second factors, rest"));
}
