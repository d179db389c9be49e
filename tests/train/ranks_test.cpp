// SPDX-License-Identifier: Apache-2.0
// The law of ranks: checkpoints, moments, metrics (times and dp/ apart) and texts have the same bits for every number
// of ranks, also where a run was stopped with one number and resumed with another. Ranks are threads here.
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/data/document_dataset.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/param_groups.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/train/ranked_store.hpp"
#include "kdlib/train/stage.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/tiny_decoder.hpp"
#include "support/training_parts.hpp"
#if defined(KDLIB_WITH_MPI)
#include "kdlib/mpi.hpp"
#endif

namespace {
using kdlib::AnyCommunicator;
using kdlib_tests::differences;
using kdlib_tests::TemporaryDirectory;
using Model = kdlib::Decoder<kdlib::Cpu, float>;
using Text = kdlib::Mixed<kdlib::DocumentDataset, kdlib::OnPolicy>;

/// What a run trains on what. 20 steps of 8 micro-batches unless it says otherwise.
struct Case {
  const char* name;
  bool lora = true, mixture = false, spans = false, staged = false;
  double lambda = 0;
  std::int64_t epochs = 0;       // 1: the text ends in the middle of a step
  std::int64_t write_batch = 0;  // texts that are written side by side
  kdlib::Reduction reduce = kdlib::Reduction::tree;
  bool shard = false;  // moments divided among the ranks
};

kdlib::DecoderConfig tiny_config(bool mixture) {
  kdlib::DecoderConfig config = kdlib_tests::tiny_decoder();
  if (mixture) {
    config.sparse = {1, 1};
    config.moe.experts = 4;
    config.moe.active = 2;
    config.moe.intermediate = 24;
    config.family = kdlib::Family::qwen3_moe;
  }
  return config;
}

/// 29 documents of 2 to 12 tokens; every fifth has no row that counts, tokens are in two spans by turns.
kdlib::TokenBatch documents(bool spans) {
  kdlib::TokenBatch out;
  for (std::uint32_t d = 0; d < 29; ++d) {
    const kdlib::Rng rng(11, kdlib::RngPurpose::test, d);
    std::vector<std::int32_t> ids(2 + rng.below(0, 11)), of_span(ids.size());
    std::vector<float> weights(ids.size());
    for (std::uint32_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<std::int32_t>(rng.below(2 * i + 1, 41));
      weights[i] = d % 5 == 4 || i + 1 == ids.size() ? 0.0f : static_cast<float>(1 + rng.below(2 * i + 2, 3)) / 2;
      of_span[i] = static_cast<std::int32_t>(i % 2);
    }
    out.append(ids, weights, spans ? std::span<const std::int32_t>(of_span) : std::span<const std::int32_t>());
  }
  return out;
}

/// The source, and the ids of every batch that it gave out, by the place behind it.
class Recorded {
 public:
  explicit Recorded(Text text) : text_(std::move(text)) {}

  std::optional<kdlib::TokenBatch> next(Model& student) {
    auto batch = text_.next(student);
    if (batch) texts_[text_.cursor()] = batch->ids;
    return batch;
  }
  bool skip() { return text_.skip(); }
  void write_step(Model& student, std::int64_t batches, std::int64_t group, AnyCommunicator& ranks) {
    text_.write_step(student, batches, group, ranks);
  }
  std::string cursor() const { return text_.cursor(); }
  void seek(const std::string& cursor) { text_.seek(cursor); }
  kdlib::SourceDescription describe() const { return text_.describe(); }

  const std::map<std::string, std::vector<std::int32_t>>& texts() const { return texts_; }

 private:
  Text text_;
  std::map<std::string, std::vector<std::int32_t>> texts_;
};

/// Asks rank `rank` to stop behind step `step`; fails there if it is to.
struct Hooks : kdlib::RunHooks {
  std::int64_t stop_at = -1, fail_at = -1;
  int fails_by = 0;  // a signal; 0: an exception
  std::atomic<bool> stop{false};
  Model* student = nullptr;

  void on_step(const kdlib::StepReport& report) override {
    if (report.step == stop_at) stop.store(true);
    if (report.step != fail_at) return;
    if (fails_by != 0) ::raise(fails_by);
    else throw kdlib::InputError("this rank fails");
  }
  kdlib::Evaluation evaluate(std::int64_t) override {
    const double value = student->parameters().back()->value.data()[0];
    return {{{"evaluation/weight", value}}, value};
  }
};

struct Run {
  std::map<std::string, std::string> files;  // with texts under "texts"
  std::int64_t step = 0;
  bool stopped = false;
};

/// One rank's part of a run in `folder`.
kdlib::RunResult train(const Case& c, AnyCommunicator ranks, const std::string& folder, Hooks& hooks, Recorded& source,
                       Model& student, Model& teacher) {
  hooks.student = &student;
  kdlib::RunSettings settings{.steps = 20,
                              .micro_batches = 8,
                              .clip_norm = 1.0,
                              .save_every = 5,
                              .evaluate_every = 4,
                              .hooks = &hooks,
                              .ranks = {ranks, c.reduce, c.write_batch, c.shard},
                              .stop = &hooks.stop};
  if (c.spans) settings.spans = {{"even", 1.0}, {"odd", 0.5}};
  kdlib::Trainer trainer{student, source, kdlib::Objective{kdlib::LiveTeacher{teacher}, kdlib::ForwardKl{}},
                         kdlib::AdamW{.weight_decay = 0.01}, kdlib::ConstantRate{1e-2}};
  kdlib::RankedSink<kdlib::JsonLines> sink(ranks, folder + "/metrics.jsonl");
  kdlib::RankedStore<kdlib::Directory> store(ranks, folder);
  const kdlib::ParameterGroups selection = c.lora ? kdlib::only("*lora_*") : kdlib::everything();
  if (!c.staged) return trainer.run(settings, sink, store, selection);
  kdlib::RunSettings first = settings;
  first.steps = 12;
  settings.steps = 8;
  return kdlib::StageList{std::vector{kdlib::TrainStage{"attention", trainer, first, kdlib::only("*self_attn*lora_*")},
                                      kdlib::TrainStage{"all", trainer, settings, selection, kdlib::StageData::go_on}}}
      .run(sink, store)
      .back();
}

/// One rank of a run, with models and a source of its own; `texts` gets what it wrote or read.
kdlib::RunResult run_rank(const Case& c, const AnyCommunicator& communicator, const std::string& folder, Hooks& hooks,
                          std::map<std::string, std::vector<std::int32_t>>& texts) {
  Model teacher = Model::from_config(tiny_config(false), 1), student = Model::from_config(tiny_config(c.mixture), 2);
  if (c.lora) kdlib::add_lora(student, {.rank = 2, .alpha = 4, .seed = 3});
  if (c.mixture) student.set_router_policy({.balance = 1e-2, .z = 1e-3});
  const std::vector<std::vector<std::int32_t>> prompts{{1, 2}, {3}, {4, 5, 6}, {7, 8}, {9}, {10, 11, 12}, {13, 14}};
  Recorded source{
      Text{kdlib::DocumentDataset{documents(c.spans), {.batch = 1, .epochs = c.epochs}},
           kdlib::OnPolicy{
               kdlib::Prompts{prompts, {0}}, kdlib::Sampler{.max_new_tokens = 6, .seed = 5}, {.prompts = 2, .seed = 6}},
           {.lambda = c.lambda, .seed = 7, .micro_batches = 8}}};
  kdlib::RunResult result = train(c, communicator, folder, hooks, source, student, teacher);
  texts = source.texts();
  return result;
}

Run run(const Case& c, int ranks, const std::string& folder, std::int64_t stop_at = -1, std::int64_t fail_at = -1) {
  Run out;
  std::mutex mutex;
  std::map<std::string, std::vector<std::int32_t>> texts;
  kdlib::run_ranks(ranks, [&](kdlib::ThreadCommunicator communicator) {
    Hooks hooks;
    if (communicator.rank() == communicator.size() - 1) hooks.stop_at = stop_at, hooks.fail_at = fail_at;
    std::map<std::string, std::vector<std::int32_t>> mine;
    const kdlib::RunResult result = run_rank(c, communicator, folder, hooks, mine);
    const std::lock_guard<std::mutex> lock(mutex);
    texts.insert(mine.begin(), mine.end());
    out.step = result.step;
    out.stopped = result.stopped;
  });
  out.files = kdlib_tests::run_files(folder);
  for (const auto& [place, ids] : texts) {
    out.files["texts"] += place + ":";
    for (const std::int32_t id : ids) out.files["texts"] += " " + std::to_string(id);
    out.files["texts"] += "\n";
  }
  return out;
}

/// SHA-256 of all files and texts of a run.
std::string hash_of(const Run& run) {
  const TemporaryDirectory folder;
  std::string all;
  for (const auto& [name, bytes] : run.files) all += name + "\n" + bytes + "\n";
  kdlib::write_file_atomically(folder.path() + "/all", all);
  return kdlib::file_hash(folder.path() + "/all");
}

void show(const Case& c, int ranks, const Run& run) {
  if (std::getenv("KDLIB_SHOW_HASHES") != nullptr)
    std::printf("%-22s W = %d  %s\n", c.name, ranks, hash_of(run).c_str());
}

const std::vector<Case> cases{
    {.name = "LoRA, given text"},
    {.name = "LoRA, lambda 1/2", .lambda = 0.5},
    {.name = "written side by side", .lambda = 0.5, .write_batch = 3},
    {.name = "every weight", .lora = false},
    {.name = "mixture with balance", .lora = false, .mixture = true, .lambda = 0.5},
    {.name = "spans", .spans = true},
    {.name = "two stages", .staged = true, .lambda = 0.5},
    {.name = "text that ends", .epochs = 1},
};

}  // namespace

TEST_CASE("one hash for 1, 2, 3, 4 and 8 ranks", "[train][ranks]") {
  for (const Case& c : cases) {
    const TemporaryDirectory alone;
    const Run one = run(c, 1, alone.path());
    CHECK(one.step == (c.epochs > 0 ? 4 : 20));  // 29 documents are three steps of 8 and one of 5
    CHECK(one.files.size() >= 8);
    show(c, 1, one);
    for (const int ranks : {2, 3, 4, 8}) {
      const TemporaryDirectory folder;
      const Run many = run(c, ranks, folder.path());
      INFO(c.name << ", " << ranks << " ranks differ in: " << differences(one.files, many.files));
      CHECK(one.files == many.files);
      show(c, ranks, many);
    }
  }
}

TEST_CASE("a run that is stopped with one number of ranks and resumed with another keeps the hash", "[train][ranks]") {
  for (const Case& c : {cases[1], cases[2], cases[6]}) {
    const TemporaryDirectory alone, folder;
    const Run whole = run(c, 1, alone.path());
    const Run part = run(c, 2, folder.path(), 7);
    CHECK(part.stopped);
    CHECK(part.step == 7);
    CHECK(run(c, 3, folder.path(), 13).step == 13);
    Run rest = run(c, 1, folder.path());
    INFO(c.name << " differs in: " << differences(whole.files, rest.files));
    for (const auto& [name, bytes] : whole.files)
      if (name != "texts" && !name.starts_with("checkpoints/")) CHECK(rest.files[name] == bytes);
    for (const char* name : {"checkpoints/20/parameters.safetensors", "checkpoints/20/optimizer.safetensors"})
      CHECK(rest.files[name] == whole.files.at(name));
  }
}

TEST_CASE("moments divided among ranks: the same checkpoints, and any number of ranks goes on from them",
          "[train][ranks]") {
  for (Case c : {cases[1], cases[4]}) {
    const TemporaryDirectory alone, folder;
    const Run whole = run(c, 1, alone.path());
    c.shard = true;
    const Run part = run(c, 4, folder.path(), 7);
    CHECK(part.step == 7);
    CHECK(run(c, 3, folder.path(), 13).step == 13);
    c.shard = false;
    Run rest = run(c, 2, folder.path());
    INFO(c.name << " differs in: " << differences(whole.files, rest.files));
    CHECK(rest.files["metrics.jsonl"] == whole.files.at("metrics.jsonl"));
    for (const char* name : {"checkpoints/20/parameters.safetensors", "checkpoints/20/optimizer.safetensors"})
      CHECK(rest.files[name] == whole.files.at(name));
  }
}

TEST_CASE("a rank that fails ends all, and the next start goes on from the checkpoint", "[train][ranks]") {
  const Case& c = cases[1];
  const TemporaryDirectory alone, folder;
  const Run whole = run(c, 2, alone.path());
  CHECK_THROWS_AS(run(c, 4, folder.path(), -1, 7), kdlib::InputError);
  Run rest = run(c, 2, folder.path());
  CHECK(rest.files["metrics.jsonl"] == whole.files.at("metrics.jsonl"));
  CHECK(rest.files["checkpoints/20/parameters.safetensors"] == whole.files.at("checkpoints/20/parameters.safetensors"));
}

TEST_CASE("without the tree a number of ranks repeats itself, and others are near", "[train][ranks]") {
  Case c = cases[3];
  c.reduce = kdlib::Reduction::fast;
  const auto losses = [](const Run& run) { return run.files.at("metrics.jsonl"); };
  const TemporaryDirectory one, again, two;
  const std::string a = losses(run(c, 2, one.path())), b = losses(run(c, 2, again.path()));
  CHECK(a == b);
  const std::string other = losses(run(c, 3, two.path()));
  CHECK(a != other);
  const auto last_loss = [](const std::string& text) {
    const std::size_t at = text.rfind("train/loss=");
    return std::strtod(text.c_str() + at + 11, nullptr);
  };
  CHECK(std::abs(last_loss(a) - last_loss(other)) < 1e-4 * last_loss(a));
}

TEST_CASE("what ranks cannot share is refused with the reason", "[train][ranks]") {
  const TemporaryDirectory folder;
  const auto message = [&](int ranks, auto&& change) {
    std::string text;
    try {
      kdlib::run_ranks(ranks, [&](kdlib::ThreadCommunicator communicator) {
        kdlib_tests::ToyModel<float> teacher{17, 6, 1}, student{17, 4, communicator.rank() == 9 ? 3u : 2u};
        kdlib::RunSettings settings{.steps = 2, .micro_batches = 4, .ranks = {communicator}};
        double rate = 0.01;
        change(communicator.rank(), settings, rate);
        kdlib::Trainer trainer{student, kdlib_tests::RaggedDocuments{{.seed = 1}},
                               kdlib::Objective{kdlib::LiveTeacher{teacher}, kdlib::ForwardKl{}}, kdlib::AdamW{},
                               kdlib::ConstantRate{rate}};
        trainer.run(settings);  // a source without skip() makes the batches of others, too
      });
    } catch (const kdlib::Error& error) {
      text = error.what();
    }
    return text;
  };
  CHECK(message(4, [](int, auto&, double&) {}).empty());
  CHECK(message(5, [](int, auto&, double&) {}) ==
        "[ranks] 5 ranks share 4 slices: a rank would have none; use fewer ranks, or more micro-batches a step");
  CHECK(message(2, [](int rank, auto&, double& rate) { rate += rank; }) ==
        "[ranks] schedule.rate is 0.01 on rank 0 and 1.01 on rank 1: all ranks need the same program, settings and "
        "files");
  CHECK(message(3, [](int rank, auto& settings, double&) { settings.steps += rank / 2; })
            .find("[ranks] steps is 2 on "
                  "rank 0 and 3 on rank 2") == 0);
}

TEST_CASE("ranks that hold the same files are refused", "[train][ranks]") {
  const TemporaryDirectory folder;
  CHECK_THROWS_AS(kdlib::run_ranks(2,
                                   [&](kdlib::ThreadCommunicator communicator) {
                                     kdlib_tests::ToyModel<float> teacher{17, 6, 1}, student{17, 4, 2};
                                     kdlib::Trainer trainer{
                                         student, kdlib_tests::RaggedDocuments{{.seed = 1}},
                                         kdlib::Objective{kdlib::LiveTeacher{teacher}, kdlib::ForwardKl{}},
                                         kdlib::AdamW{}, kdlib::ConstantRate{0.01}};
                                     trainer.run({.steps = 2, .micro_batches = 4, .ranks = {communicator}},
                                                 kdlib::JsonLines{folder.path() + "/metrics.jsonl"});
                                   }),
                  kdlib::ConfigError);
}

#if defined(KDLIB_WITH_MPI)
// One process of an MPI job: tests/train/ranks_mpi starts it by scripts/launch/ranks. KDLIB_RANKS_CASE is the number of
// the case, KDLIB_RANKS_FOLDER its folder, KDLIB_RANKS_FAIL what the last rank does behind step 7: kill, stop or throw.
// Alone it is no test: CTest's selection by file takes hidden cases, too.
TEST_CASE("a rank of an MPI job", "[.][mpi]") {
  if (std::getenv("KDLIB_RANKS_FOLDER") == nullptr) return;
  const auto text_of = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(text != nullptr ? text : "");
  };
  const Case& c = cases.at(static_cast<std::size_t>(std::atoi(text_of("KDLIB_RANKS_CASE").c_str())));
  AnyCommunicator ranks(kdlib::MpiCommunicator::world(5));
  Hooks hooks;
  const std::string fail = text_of("KDLIB_RANKS_FAIL");
  if (!fail.empty() && ranks.rank() == ranks.size() - 1) hooks.fail_at = 7;
  hooks.fails_by = fail == "kill" ? SIGKILL : fail == "stop" ? SIGSTOP : 0;
  try {
    std::map<std::string, std::vector<std::int32_t>> texts;
    static_cast<void>(run_rank(c, ranks, text_of("KDLIB_RANKS_FOLDER"), hooks, texts));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", ranks.rank(), error.what());
    std::fflush(nullptr);
    ranks.abort(75);
  }
  kdlib::MpiCommunicator::finish();
  if (!ranks.leads()) return;
  const TemporaryDirectory alone;
  const Run one = run(c, 1, alone.path());
  auto many = kdlib_tests::run_files(text_of("KDLIB_RANKS_FOLDER"));
  many["texts"] = one.files.at("texts");  // every process has its own part of them
  if (text_of("KDLIB_RANKS_RESUMED").empty()) {
    INFO("files that differ: " << differences(one.files, many));
    CHECK(one.files == many);
  } else {  // an older checkpoint may be another one
    for (const char* name :
         {"metrics.jsonl", "checkpoints/20/parameters.safetensors", "checkpoints/20/optimizer.safetensors"})
      CHECK(many[name] == one.files.at(name));
  }
}
#endif
