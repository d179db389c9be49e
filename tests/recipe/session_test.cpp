// SPDX-License-Identifier: Apache-2.0
// A program that embeds a session: a sink of its own, stops from another thread, several sessions in one process.
#include "support/sessions.hpp"

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <thread>

#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::differences;
using kdlib_tests::reference_file;
using kdlib_tests::TemporaryDirectory;
using Toy = Session<Cpu, float>;

namespace {

/// A folder with prompts, and the settings of a short run that mixes given and student-written text.
struct Job {
  TemporaryDirectory dir;

  Job() {
    write_file_atomically(dir / "prompts.jsonl", prompts(0, 12));
    write_file_atomically(dir / "validation.jsonl", prompts(100, 4));
  }
  static std::string prompts(int first, int count) {
    std::string out;
    for (int i = first; i < first + count; ++i)
      out += concat("{\"prompt_ids\": [1, ", 10 + i, ", ", 40 + 3 * i % 200, ", ", 7 + i % 50, "]}\n");
    return out;
  }
  RecipeSettings settings(const char* folder = "out", std::uint64_t seed = 1) const {
    RecipeSettings s;
    s.models.teacher = reference_file("models/llama");
    s.student.format.group_size = 32;
    s.student.adapter.rank = 4;
    s.text.prompts.path = dir / "prompts.jsonl";
    s.text.validation.path = dir / "validation.jsonl";
    s.text.lambda = 0.5;
    s.text.max_new_tokens = 9;
    s.training.steps = 4;
    s.training.batch = 3;
    s.training.warmup = 1;
    s.output.folder = dir / folder;
    s.output.save_every = 2;
    s.output.evaluate_every = 2;
    s.seed = seed;
    return s;
  }
  /// What two equal runs have in common.
  std::map<std::string, std::string> files(const char* folder = "out") const {
    auto all = kdlib_tests::run_files(dir / folder);
    all.erase("config.yaml");   // names the folder, and so do the facts
    all.erase("outputs.json");  // checksums of files that name the folder
    const RecipeResult result = read_result_json(dir / folder + "/result.json");
    all["result.json"].clear();
    for (const EvaluationRow& row : result.rows)
      all["result.json"] +=
          concat(row.model, " ", kdlib_tests::exact(row.forward_kl), " ", kdlib_tests::exact(row.perplexity), "\n");
    for (auto at = all.begin(); at != all.end();) {
      if (at->first.rfind("checkpoints/", 0) == 0) {  // a run that was stopped keeps other ones
        at = all.erase(at);
        continue;
      }
      for (std::size_t hit = at->second.find(dir / folder); hit != std::string::npos;
           hit = at->second.find(dir / folder))
        at->second.replace(hit, (dir / folder).size(), "DIR");
      ++at;
    }
    return all;
  }
};

/// The sink of the program: keeps everything, and calls `watch` with a word for each event.
class Recorder final : public SessionEvents {
 public:
  explicit Recorder(std::function<void(const std::string&)> watch = {}) : watch_(std::move(watch)) {}

  std::vector<std::string> phases;
  std::vector<std::int64_t> steps, evaluations, checkpoints;
  std::vector<std::string> notes;
  std::int64_t writings = 0, results = 0;

  void on_phase(SessionPhase phase) override {
    phases.emplace_back(session_phase_name(phase));
    tell(phases.back());
  }
  void on_note(const std::string& text) override {
    notes.push_back(text);
    tell("note");
  }
  void on_writing(const WritingReport&) override {
    ++writings;
    tell("writing");
  }
  void on_step(const StepReport& report) override {
    steps.push_back(report.step);
    tell(concat("step ", report.step));
  }
  void on_evaluation(std::int64_t step, const EvaluationRow& row) override {
    CHECK(row.tokens > 0);
    evaluations.push_back(step);
    tell(concat("evaluation ", step));
  }
  void on_checkpoint(std::int64_t step) override { checkpoints.push_back(step); }
  void on_result(const RecipeResult& result) override {
    CHECK(result.rows.size() >= 3);
    ++results;
  }
  bool entered(const std::string& phase) const {
    return std::find(phases.begin(), phases.end(), phase) != phases.end();
  }

 private:
  void tell(const std::string& event) {
    if (watch_) watch_(event);
  }
  std::function<void(const std::string&)> watch_;
};

/// Another thread of the program: it waits for an event, asks the session to stop, and only then lets it go on.
class Stopper {
 public:
  Stopper(Toy*& session, std::string event)
      : session_(session), event_(std::move(event)), thread_([this] { work(); }) {}
  Stopper(const Stopper&) = delete;
  ~Stopper() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  /// From the session's thread.
  void watch(const std::string& event) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (event != event_ || done_) return;
    seen_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return done_; });
  }

 private:
  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return seen_ || over_; });
    if (!seen_) return;
    session_->request_stop();
    CHECK(session_->status().stopping);
    done_ = true;
    changed_.notify_all();
  }

  Toy*& session_;
  std::string event_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool seen_ = false, done_ = false, over_ = false;
  std::thread thread_;
};

const std::map<std::string, std::string>& undisturbed() {
  static const std::map<std::string, std::string> files = [] {
    const Job job;
    Toy session(job.settings());
    REQUIRE(session.run().finished);
    return job.files();
  }();
  return files;
}

}  // namespace

TEST_CASE("a session tells its phases, steps, evaluations and result to the program's sink", "[recipe][session]") {
  const Job job;
  Recorder sink;
  Toy session(job.settings(), &sink);
  CHECK(session.status().phase == SessionPhase::waiting);
  const SessionOutcome outcome = session.run();
  CHECK(outcome.finished);
  CHECK_FALSE(outcome.stopped);
  CHECK(outcome.step == 4);
  CHECK(outcome.result.rows.size() >= 3);
  CHECK(sink.phases ==
        std::vector<std::string>{"checking", "loading", "rounding", "measuring", "training", "finishing", "finished"});
  CHECK(sink.steps == std::vector<std::int64_t>{1, 2, 3, 4});
  CHECK(sink.evaluations == std::vector<std::int64_t>{0, 2, 4});
  CHECK(sink.checkpoints == std::vector<std::int64_t>{2, 4});
  CHECK(sink.writings > 0);
  CHECK(sink.results == 1);
  CHECK(session.status().phase == SessionPhase::finished);
  CHECK(session.status().step == 4);
  CHECK(session.student() != nullptr);
  CHECK(session.held_out().documents() == 4);
  CHECK_THROWS_WITH(session.run(), contains("run() was called before"));
  for (const char* name :
       {"config.yaml", "metrics.jsonl", "result.json", "adapter/adapter_config.json", "base/config.json"})
    CHECK(path_exists(job.dir / "out" + std::string("/") + name));

  Recorder again;
  const SessionOutcome found = Toy(job.settings(), &again).run();
  CHECK(found.was_finished);
  CHECK(again.phases == std::vector<std::string>{"checking", "finished"});
  CHECK(again.results == 1);
  CHECK(found.result.rows.back().forward_kl == outcome.result.rows.back().forward_kl);
}

TEST_CASE("a plan loads the models, writes nothing, and run() goes on from there", "[recipe][session]") {
  const Job job;
  Recorder sink;
  Toy session(job.settings(), &sink);
  const RecipePlan plan = session.plan();
  CHECK(plan.memory_bytes() > 0);
  CHECK(plan.step_seconds > 0);
  CHECK_FALSE(path_exists(job.dir / "out"));
  CHECK(session.run().finished);
  CHECK(std::count(sink.phases.begin(), sink.phases.end(), "loading") == 1);
  CHECK(differences(job.files(), undisturbed()) == "");
}

TEST_CASE("a session that another thread stops enters no later phase, and the same settings end as if undisturbed",
          "[recipe][session]") {
  const std::pair<const char*, const char*> cases[] = {
      {"checking", "loading"}, {"loading", "rounding"},   {"rounding", "measuring"}, {"note", "measuring"},
      {"writing", "training"}, {"measuring", "training"}, {"training", "finishing"}, {"step 1", "finishing"},
      {"step 2", "finishing"}, {"step 3", "finishing"},   {"finishing", "finished"}, {"evaluation 2", "finishing"}};
  for (const auto& [event, never] : cases) {
    CAPTURE(event);
    const Job job;
    Toy* running = nullptr;
    {
      Stopper stopper(running, event);
      Recorder sink([&](const std::string& what) { stopper.watch(what); });
      Toy session(job.settings(), &sink);
      running = &session;
      const SessionOutcome outcome = session.run();
      CHECK(outcome.stopped);
      CHECK_FALSE(outcome.finished);
      CHECK_FALSE(sink.entered(never));
      CHECK(sink.results == 0);
      CHECK(session.status().phase == SessionPhase::stopped);
      if (std::string(event) == "step 2") CHECK(outcome.step == 2);
    }
    Toy again(job.settings());
    CHECK(again.run().finished);
    CHECK(differences(job.files(), undisturbed()) == "");
  }
}

TEST_CASE("memory that runs short: one checkpoint with a warning, then an end with everything saved",
          "[recipe][session]") {
  const Job job;
  RecipeSettings settings = job.settings();
  settings.output.save_every = 0;
  const auto run = [&](std::vector<double> shares, Recorder& events) {
    Toy session(settings, &events);
    session.watch_memory_by([shares, i = std::size_t{0}]() mutable { return shares.at(i++); });
    return session.run();
  };
  Recorder first;
  const SessionOutcome stopped = run({0.09, 0.05, 0.039}, first);
  CHECK(stopped.stopped);
  CHECK(stopped.low_memory);
  CHECK(stopped.step == 3);
  CHECK(first.checkpoints == std::vector<std::int64_t>{1, 3});  // one in time, and one at the end
  std::size_t warnings = 0;
  for (const std::string& note : first.notes) warnings += note.find("memory runs short") == 0 ? 1u : 0u;
  CHECK(warnings == 2);

  Recorder second;
  const SessionOutcome done = run({0.5}, second);
  CHECK(done.finished);
  CHECK_FALSE(done.low_memory);
  CHECK(second.steps == std::vector<std::int64_t>{4});
  CHECK(differences(job.files(), undisturbed()) == "");

  settings.output.folder = job.dir / "never";
  settings.output.memory_floor = 0;
  Recorder third;
  CHECK(run({}, third).finished);  // nobody asks for the share
}

TEST_CASE("a stop that was asked for before run() ends it before anything is read", "[recipe][session]") {
  const Job job;
  Recorder sink;
  Toy session(job.settings(), &sink);
  session.request_stop();
  CHECK(session.run().stopped);
  CHECK_FALSE(sink.entered("loading"));
  CHECK_FALSE(path_exists(job.dir / "out"));
  CHECK_THROWS_AS(session.plan(), StopRequested);
}

TEST_CASE("sessions of one process give the same files one after the other and side by side", "[recipe][session]") {
  const Job job;
  const auto run = [&](const char* folder) { return Toy(job.settings(folder)).run().finished; };
  CHECK(run("first"));
  CHECK(run("second"));
  bool third = false, fourth = false;
  std::thread a([&] { third = run("third"); }), b([&] { fourth = run("fourth"); });
  a.join();
  b.join();
  CHECK((third && fourth));
  for (const char* folder : {"first", "second", "third", "fourth"})
    CHECK(differences(job.files(folder), undisturbed()) == "");
}

TEST_CASE("stopping one session leaves the one beside it alone", "[recipe][session]") {
  const Job job;
  Toy* running = nullptr;
  Toy other(job.settings("other"));
  bool finished = false;
  std::thread beside([&] { finished = other.run().finished; });
  {
    Stopper stopper(running, "step 1");
    Recorder sink([&](const std::string& what) { stopper.watch(what); });
    Toy session(job.settings("stopped"), &sink);
    running = &session;
    CHECK(session.run().stopped);
  }
  beside.join();
  CHECK(finished);
  CHECK(differences(job.files("other"), undisturbed()) == "");
}

TEST_CASE("a folder that a session works in is refused to a second one at once", "[recipe][session]") {
  const Job job;
  std::string refusal;
  bool asked = false;
  Recorder sink([&](const std::string& what) {
    if (what != "step 1" || asked) return;
    asked = true;
    Toy second(job.settings());
    try {
      second.run();
    } catch (const IoError& error) {
      refusal = error.what();
    }
    CHECK(second.status().phase == SessionPhase::failed);
  });
  Toy first(job.settings(), &sink);
  CHECK(first.run().finished);
  CHECK_THAT(refusal, contains("is in use by another"));
  CHECK(differences(job.files(), undisturbed()) == "");
}

TEST_CASE("what a sink throws ends the session, and the same settings go on", "[recipe][session]") {
  const Job job;
  Recorder sink([](const std::string& what) {
    if (what == "step 3") throw InputError("the sink has enough");
  });
  Toy session(job.settings(), &sink);
  CHECK_THROWS_WITH(session.run(), contains("the sink has enough"));
  CHECK(session.status().phase == SessionPhase::failed);
  CHECK(Toy(job.settings()).run().finished);
  CHECK(differences(job.files(), undisturbed()) == "");
}

TEST_CASE("a student that is the teacher itself is told that there is nothing to learn", "[recipe]") {
  const auto warned = [](bool rounded) {
    const Job job;
    RecipeSettings settings = job.settings();
    settings.student.rounded = rounded;
    settings.training.steps = 1;
    Recorder events;
    Toy session(settings, &events);
    REQUIRE(session.run().finished);
    return std::any_of(events.notes.begin(), events.notes.end(), [](const std::string& note) {
      return note.rfind("warning: student and teacher are one model and nothing is rounded", 0) == 0;
    });
  };
  CHECK(warned(false));
  CHECK_FALSE(warned(true));
}
