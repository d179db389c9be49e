// SPDX-License-Identifier: Apache-2.0
// Ranks that hold the teacher: the students' files have the bits of a run with the teacher beside the student, and a
// rank that is lost ends all. Ranks are threads here.
#include <algorithm>
#include <chrono>
#include <thread>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/teacher/any_hidden.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/teacher/ranked.hpp"
#include "kdlib/train/checkpoint.hpp"
#include "kdlib/train/ranked_store.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/toy_model.hpp"
#include "support/training_parts.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::differences;
using kdlib_tests::RaggedDocuments;
using kdlib_tests::refusal;
using kdlib_tests::TemporaryDirectory;
using Toy = kdlib_tests::ToyModel<float>;
using Teacher = AnyHiddenTeacher<Cpu, float>;

namespace {

constexpr std::int64_t steps = 6;

/// Stops behind a step.
struct Hooks : RunHooks {
  std::int64_t stop_at = -1;
  std::atomic<bool> stop{false};
  void on_step(const StepReport& report) override {
    if (report.step == stop_at) stop.store(true);
  }
};

std::int64_t train(const AnyCommunicator& students, const std::string& folder, Teacher teacher,
                   std::int64_t stop_at = -1) {
  Toy student(17, 4, 2);
  Hooks hooks;
  hooks.stop_at = stop_at;
  const RunSettings settings{.steps = steps,
                             .micro_batches = 4,
                             .save_every = 2,
                             .hooks = &hooks,
                             .ranks = {students, Reduction::tree},
                             .stop = &hooks.stop};
  Trainer trainer{student, RaggedDocuments{{.seed = 1}}, Objective{std::move(teacher), ForwardKl{}}, AdamW{},
                  ConstantRate{0.01}};
  RankedSink<JsonLines> sink(students, folder + "/metrics.jsonl");
  RankedStore<Directory> store(students, folder);
  return trainer.run(settings, sink, store).step;
}

using Files = std::map<std::string, std::string>;

Files beside(const std::string& folder) {
  Toy teacher(17, 6, 1);
  train({}, folder, Teacher(LiveTeacher<Toy>{teacher}));
  return kdlib_tests::run_files(folder);
}

/// One rank of a run with `teachers` ranks that hold the teacher.
void run_one(const AnyCommunicator& all, int teachers, const std::string& folder, std::int64_t stop_at = -1) {
  TeacherRanks ranks{all, teachers};
  ranks.check();
  const AnyCommunicator role = ranks.role();
  if (ranks.teaches()) {
    Toy teacher(17, 6, 1);
    serve_students(teacher, ranks);
    return;
  }
  const auto link = std::make_shared<TeacherLink>(all, ranks.own_teacher());
  train(role, folder, Teacher(RankTeacher<Cpu, float>(link)), stop_at);
  link->end();
}

}  // namespace

TEST_CASE("students whose teacher is on ranks of its own leave the files of one that has it beside", "[train][ranks]") {
  const TemporaryDirectory alone;
  const Files one = beside(alone.path());
  REQUIRE(one.size() >= 4);
  for (const int teachers : {1, 2})
    for (const int students : {2, 3, 4}) {
      const TemporaryDirectory folder;
      run_ranks(students + teachers, [&](ThreadCommunicator all) { run_one(all, teachers, folder.path()); });
      const Files many = kdlib_tests::run_files(folder.path());
      INFO(students << " students and " << teachers << " teachers differ in: " << differences(one, many));
      CHECK(one == many);
      const std::string metrics = read_file(folder.path() + "/metrics.jsonl");
      CHECK_THAT(metrics, contains("dp/teacher_wait_seconds") && contains("dp/teacher_idle_seconds"));
    }
  const TemporaryDirectory folder;  // one student: no tree among ranks, and the same
  run_ranks(2, [&](ThreadCommunicator all) { run_one(all, 1, folder.path()); });
  INFO(differences(one, kdlib_tests::run_files(folder.path())));
  CHECK(one == kdlib_tests::run_files(folder.path()));
}

TEST_CASE("a run that is stopped with ranks that teach goes on with the teacher beside the student", "[train][ranks]") {
  const TemporaryDirectory alone, folder;
  Files one = beside(alone.path());
  run_ranks(3, [&](ThreadCommunicator all) { run_one(all, 1, folder.path(), 3); });
  Toy teacher(17, 6, 1);
  CHECK(train({}, folder.path(), Teacher(LiveTeacher<Toy>{teacher})) == steps);
  Files rest = kdlib_tests::run_files(folder.path());
  for (const char* name :
       {"metrics.jsonl", "checkpoints/6/parameters.safetensors", "checkpoints/6/optimizer.safetensors"})
    CHECK(rest[name] == one[name]);
}

TEST_CASE("a teacher or a student that fails ends all ranks with its own error", "[train][ranks]") {
  const TemporaryDirectory folder;
  for (const bool teacher_fails : {true, false}) {
    std::atomic<int> lost{0};
    const std::string message = refusal([&] {
      run_ranks(3, [&](ThreadCommunicator all) {
        TeacherRanks ranks{AnyCommunicator(all), 1};
        const AnyCommunicator role = ranks.role();
        try {
          if (ranks.teaches()) {
            Toy teacher(teacher_fails ? 5 : 17, 6, 1);  // ids of the text are outside a vocabulary of 5
            serve_students(teacher, ranks);
            return;
          }
          const auto link = std::make_shared<TeacherLink>(ranks.all, ranks.own_teacher());
          RankTeacher<Cpu, float> teacher(link);
          require<InputError>(teacher_fails || all.rank() != 1, "line 7 is broken");
          for (int i = 0; i < 3; ++i) teacher.prepare(RaggedDocuments{{.seed = 1}}.batch(i));
          all.barrier();
        } catch (const RankError&) {
          ++lost;
          throw;
        }
      });
    });
    CHECK_THAT(message, contains(teacher_fails ? "vocabulary" : "line 7 is broken"));
    CHECK(lost == 2);
  }
}

TEST_CASE("a teacher that does not answer is lost after the deadline", "[train][ranks]") {
  const std::string message = refusal([&] {
    run_ranks(
        2,
        [](ThreadCommunicator all) {
          TeacherRanks ranks{AnyCommunicator(all), 1};
          if (ranks.teaches()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(700));
            return;
          }
          const RankTeacher<Cpu, float> teacher(std::make_shared<TeacherLink>(ranks.all, ranks.own_teacher()));
        },
        0.2);
  });
  CHECK_THAT(message, contains("lost rank: no message came within 0.2"));
}

TEST_CASE("announced batches may be asked for in any order, twice, or never", "[train][ranks]") {
  run_ranks(2, [](ThreadCommunicator all) {
    TeacherRanks ranks{AnyCommunicator(all), 1};
    Toy model(17, 6, 1);
    if (ranks.teaches()) return serve_students(model, ranks);
    const auto link = std::make_shared<TeacherLink>(ranks.all, ranks.own_teacher());
    {
      RankTeacher<Cpu, float> teacher(link), copy(teacher);
      LiveTeacher<Toy> live(model);
      const RaggedDocuments text{{.seed = 1}};
      for (const int i : {0, 1, 2, 1}) teacher.announce(text.batch(i));
      for (const int i : {2, 0, 1, 3}) {
        RankTeacher<Cpu, float>& asked = i == 3 ? copy : teacher;
        asked.prepare(text.batch(i));
        live.prepare(text.batch(i));
        const auto a = asked.targets(0, live.rows()), b = live.targets(0, live.rows());
        require<Error>(std::equal(a.hidden.data(), a.hidden.data() + a.hidden.count(), b.hidden.data()),
                       "the rows of batch ", i, " differ");
      }
      // A row that lost its weight behind the announcement.
      TokenBatch fewer = text.batch(4);
      teacher.announce(fewer);
      fewer.weights = std::vector<float>(fewer.ids.size(), 0.0f);
      const std::vector<std::int64_t> rows = text.batch(4).rows().token;
      fewer.weights[static_cast<std::size_t>(rows.back())] = 1;
      const std::uint64_t asked = link->asked();
      teacher.prepare(fewer);
      live.prepare(fewer);
      require<Error>(link->asked() == asked, "a row of the announced batch was asked for again");
      const auto a = teacher.targets(0, 1), b = live.targets(0, 1);
      require<Error>(std::equal(a.hidden.data(), a.hidden.data() + a.hidden.count(), b.hidden.data()),
                     "the row that is left differs");
      require<Error>(refusal([&] { teacher.targets(0, 1000); }).find("rows 0 to 1000 of") != std::string::npos,
                     "no refusal");
    }
    link->end();  // the second batch 1 was forgotten
  });
  SUCCEED();
}

TEST_CASE("roles that do not fit are refused, and so are communicators without messages", "[train][ranks]") {
  const auto made = [](int ranks, int teachers) {
    return refusal([&] {
      run_ranks(ranks, [&](ThreadCommunicator all) { TeacherRanks{AnyCommunicator(all), teachers}.check(); });
    });
  };
  const std::string none = refusal([] {});
  CHECK(made(3, 1) == none);
  CHECK(made(4, 2) == none);
  CHECK_THAT(made(3, 2), contains("of 3 ranks 2 are to hold the teacher"));
  CHECK_THAT(made(1, 1), contains("as many or more must be left to train"));
  AnyCommunicator alone, self(SelfCommunicator{});
  CHECK_THAT(refusal([&] { alone.send({}, 0); }), contains("sends no messages"));
  CHECK_THAT(refusal([&] { self.receive(0); }), contains("sends no messages"));
}
