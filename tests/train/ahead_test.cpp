// SPDX-License-Identifier: Apache-2.0
// Steps that are announced to the teacher before their turn: the files of a run without, whatever is fetched ahead,
// also where it is stopped.
#include <deque>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/data/document_dataset.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/teacher/ranked.hpp"
#include "kdlib/train/checkpoint.hpp"
#include "kdlib/train/ranked_store.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/tiny_decoder.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::differences;
using kdlib_tests::refusal;
using kdlib_tests::TemporaryDirectory;
using Model = Decoder<Cpu, float>;
using Text = Mixed<DocumentDataset, OnPolicy>;

namespace {

/// A teacher that counts how many announced batches nobody has asked for yet.
class Counting {
 public:
  using targets_type = HiddenTargets<float, Cpu>;
  explicit Counting(Model& model) : live_(model) {}

  std::int64_t vocab_size() const { return live_.vocab_size(); }
  void announce(const TokenBatch& batch) {
    announced_.push_back(batch.ids);
    most = std::max(most, announced_.size());
  }
  void prepare(const TokenBatch& batch) {
    require<Error>(!announced_.empty() && announced_.front() == batch.ids, "another batch than the next announced one");
    announced_.pop_front();
    live_.prepare(batch);
  }
  targets_type targets(std::int64_t begin, std::int64_t count) const { return live_.targets(begin, count); }
  SettingsList describe() const { return live_.describe(); }

  static inline std::size_t most = 0;

 private:
  LiveTeacher<Model> live_;
  std::deque<std::vector<std::int32_t>> announced_;
};

struct Hooks : RunHooks {
  std::int64_t stop_at = -1, finish_at = -1;
  std::atomic<bool> stop{false};
  void on_step(const StepReport& report) override {
    if (report.step == stop_at) stop.store(true);
  }
  std::string finish_reason(const StepReport& report) override { return report.step == finish_at ? "enough" : ""; }
};

TokenBatch documents() {
  TokenBatch out;
  for (std::uint32_t d = 0; d < 23; ++d) {
    const Rng rng(5, RngPurpose::test, d);
    std::vector<std::int32_t> ids(3 + rng.below(0, 6));
    for (std::uint32_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(rng.below(i + 1, 41));
    out.append(ids);
  }
  return out;
}

struct Setup {
  double lambda = 0;
  std::int64_t ahead = 0, epochs = 0, stop_at = -1, finish_at = -1;
  AnyCommunicator ranks{};
};

/// Trains in the folder; answers the source's place behind the run.
template <class Teacher>
std::string train(const Setup& s, const std::string& folder, Teacher teacher) {
  Model student = Model::from_config(kdlib_tests::tiny_decoder(), 2);
  Hooks hooks;
  hooks.stop_at = s.stop_at;
  hooks.finish_at = s.finish_at;
  Text text{DocumentDataset{documents(), {.batch = 2, .epochs = s.epochs}},
            OnPolicy{Prompts{{{1, 2}, {3}, {4, 5, 6}}, {0}}, Sampler{.max_new_tokens = 5, .seed = 5}, {.prompts = 2}},
            {.lambda = s.lambda, .seed = 7, .micro_batches = 2}};
  const RunSettings settings{.steps = 9,
                             .micro_batches = 2,
                             .save_every = 2,
                             .hooks = &hooks,
                             .teacher_ahead = s.ahead,
                             .ranks = {s.ranks, Reduction::tree},
                             .stop = &hooks.stop};
  Trainer trainer{student, text, Objective{std::move(teacher), ForwardKl{}}, AdamW{}, ConstantRate{0.01}};
  RankedSink<JsonLines> sink(s.ranks, folder + "/metrics.jsonl");
  RankedStore<Directory> store(s.ranks, folder);
  trainer.run(settings, sink, store);
  return text.cursor();
}

std::string train(const Setup& s, const std::string& folder) {
  Model teacher = Model::from_config(kdlib_tests::tiny_decoder(), 1);
  return train(s, folder, Counting(teacher));
}

}  // namespace

TEST_CASE("steps that are fetched ahead change no file and leave the source where it would be", "[train]") {
  for (const double lambda : {0.0, 0.5})
    for (const std::int64_t epochs : {0, 1}) {  // 1: the text ends in the middle of a step
      const TemporaryDirectory plain;
      Counting::most = 0;
      const std::string place = train({.lambda = lambda, .epochs = epochs}, plain.path());
      CHECK(Counting::most == 2);  // the micro-batches of one step
      const auto files = kdlib_tests::run_files(plain.path());
      for (const std::int64_t ahead : {1, 3, 100}) {
        const TemporaryDirectory folder;
        Counting::most = 0;
        CHECK(train({.lambda = lambda, .ahead = ahead, .epochs = epochs}, folder.path()) == place);
        CHECK(Counting::most > 2);
        CHECK(Counting::most <= static_cast<std::size_t>(2 + 2 * ahead));
        INFO(ahead << " steps ahead, lambda " << lambda
                   << " differ in: " << differences(files, kdlib_tests::run_files(folder.path())));
        CHECK(kdlib_tests::run_files(folder.path()) == files);
      }
    }
}

TEST_CASE("a run that is stopped or ended with steps fetched ahead goes on as if there were none", "[train]") {
  const TemporaryDirectory plain;
  train({.lambda = 0.5}, plain.path());
  auto whole = kdlib_tests::run_files(plain.path());
  const TemporaryDirectory folder;
  train({.lambda = 0.5, .ahead = 4, .stop_at = 3}, folder.path());
  train({.lambda = 0.5, .ahead = 2, .stop_at = 6}, folder.path());
  train({.lambda = 0.5}, folder.path());
  auto rest = kdlib_tests::run_files(folder.path());
  for (const char* name :
       {"metrics.jsonl", "checkpoints/9/parameters.safetensors", "checkpoints/9/optimizer.safetensors"})
    CHECK(rest[name] == whole[name]);
  CHECK(Directory(folder.path()).latest()->source_cursor == Directory(plain.path()).latest()->source_cursor);

  const TemporaryDirectory ended, early;
  const std::string place = train({.finish_at = 4}, ended.path());
  CHECK(train({.ahead = 3, .finish_at = 4}, early.path()) == place);
  CHECK(kdlib_tests::run_files(early.path()) == kdlib_tests::run_files(ended.path()));
}

TEST_CASE("ranks and ranks that teach fetch ahead, too", "[train][ranks]") {
  const TemporaryDirectory plain;
  train({.lambda = 0.5}, plain.path());
  const auto files = kdlib_tests::run_files(plain.path());
  const TemporaryDirectory two, three;
  run_ranks(2, [&](ThreadCommunicator all) {
    Model teacher = Model::from_config(kdlib_tests::tiny_decoder(), 1);
    train({.lambda = 0.5, .ahead = 2, .ranks = all}, two.path(), LiveTeacher<Model>(teacher));
  });
  INFO(differences(files, kdlib_tests::run_files(two.path())));
  CHECK(kdlib_tests::run_files(two.path()) == files);
  run_ranks(3, [&](ThreadCommunicator all) {
    TeacherRanks ranks{AnyCommunicator(all), 1};
    const AnyCommunicator role = ranks.role();
    if (ranks.teaches()) {
      Model teacher = Model::from_config(kdlib_tests::tiny_decoder(), 1);
      return serve_students(teacher, ranks);
    }
    const auto link = std::make_shared<TeacherLink>(ranks.all, ranks.own_teacher());
    train({.lambda = 0.5, .ahead = 2, .ranks = role}, three.path(), RankTeacher<Cpu, float>(link));
    link->end();
  });
  INFO(differences(files, kdlib_tests::run_files(three.path())));
  CHECK(kdlib_tests::run_files(three.path()) == files);
}

TEST_CASE("a source that does not tell given text apart is not fetched ahead", "[train]") {
  Model student = Model::from_config(kdlib_tests::tiny_decoder(), 2),
        teacher = Model::from_config(kdlib_tests::tiny_decoder(), 1);
  const std::vector<std::vector<std::int32_t>> prompts{{1, 2}};
  Trainer trainer{student, OnPolicy{Prompts{prompts, {0}}, Sampler{.max_new_tokens = 5}, {.prompts = 1}},
                  Objective{LiveTeacher<Model>(teacher), ForwardKl{}}, AdamW{}, ConstantRate{0.01}};
  CHECK_THAT(refusal([&] { trainer.run({.steps = 2, .teacher_ahead = 1}); }),
             contains("teacher_ahead is 1, and the source does not say"));
  CHECK_THAT(refusal([&] { trainer.run({.steps = 2, .teacher_ahead = -1}); }), contains("it must be 0 or above"));
}
