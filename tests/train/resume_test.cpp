// SPDX-License-Identifier: Apache-2.0
// The resume law: a run that is killed at any moment and started again ends with the same metrics (times aside),
// checkpoints and best state, bit for bit, as one that was left alone. The runs are processes of their own, really
// killed: this executable starts itself again with the hidden case "child of the resume tests".
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/rollout/mixed.hpp"
#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/tools/stop_signals.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/fault_hook.hpp"
#include "support/run_files.hpp"
#include "support/shared.hpp"
#include "support/tiny_decoder.hpp"
#include "support/training_parts.hpp"

namespace {
using kdlib_tests::differences;
using Model = kdlib::Decoder<kdlib::Cpu, float>;
using kdlib_tests::RaggedDocuments;
using kdlib_tests::TemporaryDirectory;
using kdlib_tests::tiny_decoder;

/// Held-out forward KL, and an adapter in every checkpoint.
struct ChildHooks : kdlib::RunHooks {
  Model* student = nullptr;
  kdlib::LiveTeacher<Model>* teacher = nullptr;

  kdlib::Evaluation evaluate(std::int64_t) override {
    const kdlib::TokenBatch batch = RaggedDocuments{{.vocabulary = 41, .documents = 4, .seed = 99}}.batch(0);
    teacher->prepare(batch);
    const auto rows = batch.rows();
    const auto hidden = student->forward(batch);
    kdlib::RowBuffer<float, kdlib::Cpu> buffer;
    const auto result =
        kdlib::head_loss(kdlib::ForwardKl{}, student->head(), buffer.gather(hidden.view(), rows.token),
                         teacher->targets(0, teacher->rows()), {rows.label, rows.weight}, 1.0,
                         kdlib::View<float, kdlib::Cpu>{}, static_cast<kdlib::Parameter<float, kdlib::Cpu>*>(nullptr));
    return {{{"evaluation/forward_kl", result.loss.mean()}}, result.loss.mean()};
  }
  void write_files(const std::string& folder, std::int64_t, bool) override { kdlib::save_adapter(*student, folder); }
  void on_step(const kdlib::StepReport& report) override {
    const char* at = ::getenv("KDLIB_TEST_TERM_AT");
    if (at != nullptr && report.step == std::atoi(at)) ::raise(SIGTERM);
  }
  void on_message(const std::string& text) override { std::printf("message: %s\n", text.c_str()); }
};

/// Twelve steps of two micro-batches, about half of them on text that the student writes; a checkpoint every third.
int child(const std::string& out) try {
  Model teacher = Model::from_config(tiny_decoder(), 1), student = Model::from_config(tiny_decoder(), 2);
  kdlib::add_lora(student, {.rank = 2, .alpha = 4, .seed = 3});
  kdlib::LiveTeacher live{teacher};
  ChildHooks hooks;
  hooks.student = &student;
  hooks.teacher = &live;
  const std::vector<std::vector<std::int32_t>> prompts{{1, 2}, {3}, {4, 5, 6}, {7, 8}, {9}, {10, 11, 12}, {13, 14}};
  kdlib::OnPolicy rollouts{
      kdlib::Prompts{prompts, {0}}, kdlib::Sampler{.max_new_tokens = 6, .seed = 5}, {.prompts = 3, .seed = 6}};
  kdlib::Mixed source{RaggedDocuments{{.vocabulary = 41}}, rollouts, {.lambda = 0.5, .seed = 7, .micro_batches = 2}};
  const double rate = ::getenv("KDLIB_TEST_RATE") != nullptr ? 2e-2 : 1e-2;
  kdlib::Trainer trainer{student, source, kdlib::Objective{live, kdlib::ForwardKl{}},
                         kdlib::AdamW{.weight_decay = 0.01},
                         kdlib::WarmupLinear{.peak = rate, .warmup = 2, .total = 12}};
  const kdlib::StopSignals signals;
  const auto result = trainer.run({.steps = 12,
                                   .micro_batches = 2,
                                   .clip_norm = 1.0,
                                   .save_every = 3,
                                   .keep = 2,
                                   .evaluate_every = 4,
                                   .settings = {{"data", "ragged"}},
                                   .hooks = &hooks,
                                   .stop = signals.flag()},
                                  kdlib::JsonLines{out + "/metrics.jsonl"}, kdlib::Directory{out});
  for (const char* kind : {"write", "fsync", "rename"}) std::printf("%s %ld\n", kind, kdlib_tests::fault_count(kind));
  std::printf("finished %d stopped %d was_finished %d from %lld\n", result.finished, result.stopped,
              result.was_finished, static_cast<long long>(result.resumed_from));
  return result.stopped ? 3 : 0;
} catch (const kdlib::Error& error) {
  std::printf("error: %s\n", error.what());
  return 1;
}

struct Ended {
  bool killed = false;
  int status = -1;
  std::string output;
};

/// Starts the child on `dir`. `fault` as KDLIB_FAULT.
Ended run(const TemporaryDirectory& dir, int threads, const std::string& fault = {}, const char* rate = nullptr) {
  const std::string log = dir.path() + ".log";
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(fd, 1);
    ::setenv("KDLIB_RESUME_CHILD", dir.path().c_str(), 1);
    ::setenv("KDLIB_NUM_THREADS", std::to_string(threads).c_str(), 1);
    if (!fault.empty()) ::setenv("KDLIB_FAULT", fault.c_str(), 1);
    if (rate != nullptr) ::setenv("KDLIB_TEST_RATE", rate, 1);
    ::execl("/proc/self/exe", "test", "child of the resume tests", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  Ended ended;
  ended.killed = WIFSIGNALED(status);
  ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  ended.output = kdlib::read_file(log);
  ::unlink(log.c_str());
  return ended;
}

std::map<std::string, std::string> contents(const TemporaryDirectory& dir) {
  return kdlib_tests::run_files(dir.path());
}

struct Undisturbed {
  std::map<std::string, std::string> files;
  std::map<std::string, long> calls;  // of write, fsync and rename
};

/// The run that nobody disturbed, made once for a thread count.
const Undisturbed& undisturbed(int threads) {
  static std::map<int, Undisturbed> made;
  if (made.count(threads) == 0) {
    const TemporaryDirectory dir;
    const Ended ended = run(dir, threads);
    INFO(ended.output);
    REQUIRE(ended.status == 0);
    Undisturbed& u = made[threads];
    u.files = contents(dir);
    for (const char* kind : {"write", "fsync", "rename"}) {
      const std::size_t at = ended.output.find(std::string(kind) + " ");
      if (at != std::string::npos) u.calls[kind] = std::atol(ended.output.c_str() + at + std::string(kind).size());
    }
  }
  return made.at(threads);
}
}  // namespace

TEST_CASE("child of the resume tests", "[.][resume-child]") {
  const char* out = ::getenv("KDLIB_RESUME_CHILD");
  if (out == nullptr) return;  // asked for by a tag: nothing to do in the parent
  const int status = child(out);
  std::fflush(stdout);
  ::_exit(status);
}

TEST_CASE("a run leaves the same files twice, and a finished one is left as it is", "[train][resume]") {
  const TemporaryDirectory dir;
  REQUIRE(run(dir, 1).status == 0);
  CHECK(differences(contents(dir), undisturbed(1).files).empty());
  const auto& files = undisturbed(1).files;
  CHECK(files.count("checkpoints/12/state.json") == 1);
  CHECK(files.count("checkpoints/9/adapter_model.safetensors") == 1);
  CHECK(files.count("checkpoints/6/state.json") == 0);  // two are kept
  CHECK(files.count("best/parameters.safetensors") == 1);
  const Ended again = run(dir, 1);
  CHECK(again.status == 0);
  CHECK_THAT(again.output, contains("was_finished 1"));
  CHECK(differences(contents(dir), files).empty());
}

TEST_CASE("killed before a write, fsync or rename and started again, a run ends as if nothing had been",
          "[train][resume]") {
  for (const int threads : {1, 2}) {
    const Undisturbed& expected = undisturbed(threads);
    for (const char* kind : {"write", "fsync", "rename"}) {
      const long calls = expected.calls.at(kind);
      REQUIRE(calls > 10);
      // First and last calls, and some between; among them writes inside a checkpoint and the rename that makes it
      // visible.
      const std::vector<long> points = threads == 1
                                           ? std::vector<long>{1, 2, calls / 4, calls / 3, calls / 2, calls - 3, calls}
                                           : std::vector<long>{calls * 2 / 3};
      for (const long n : points) {
        INFO(kind << " " << n << " of " << calls << ", " << threads << " threads");
        const TemporaryDirectory dir;
        CHECK(run(dir, threads, kdlib::concat(std::string(kind), ":", n, ":kill")).killed);
        const Ended ended = run(dir, threads);
        CHECK(ended.status == 0);
        CHECK(ended.output.find("message:") == std::string::npos);
        CHECK(differences(contents(dir), expected.files).empty());
      }
    }
  }
}

TEST_CASE("a full disk is a clear error, and the run goes on when there is space again", "[train][resume]") {
  const Undisturbed& expected = undisturbed(1);
  for (const char* kind : {"write", "fsync"}) {
    const TemporaryDirectory dir;
    const Ended full = run(dir, 1, kdlib::concat(std::string(kind), ":", expected.calls.at(kind) / 2, ":enospc"));
    CHECK(full.status == 1);
    CHECK_THAT(full.output, contains("No space left on device") && contains("free some space") && contains(dir.path()));
    CHECK(run(dir, 1).status == 0);
    CHECK(differences(contents(dir), expected.files).empty());
  }
}

TEST_CASE("killed again and again at different places, a run still ends as if nothing had been", "[train][resume]") {
  for (const int threads : {1, 2}) {
    const TemporaryDirectory dir;
    for (const char* fault : {"write:1", "fsync:3", "rename:2", "write:9", "fsync:11", "write:14", "rename:6"}) {
      INFO(fault);
      CHECK(run(dir, threads, kdlib::concat(fault, ":kill")).killed);
    }
    CHECK(run(dir, threads).status == 0);
    CHECK(differences(contents(dir), undisturbed(threads).files).empty());
  }
}

TEST_CASE("SIGTERM saves, and the next run goes on to the same end", "[train][resume]") {
  const TemporaryDirectory dir;
  ::setenv("KDLIB_TEST_TERM_AT", "5", 1);
  const Ended stopped = run(dir, 1);
  ::unsetenv("KDLIB_TEST_TERM_AT");
  CHECK(stopped.status == 3);
  CHECK(kdlib::Directory{dir.path()}.steps() == std::vector<std::int64_t>{3, 5});
  const Ended ended = run(dir, 1);
  CHECK(ended.status == 0);
  CHECK_THAT(ended.output, contains("from 5"));
  CHECK(differences(contents(dir), undisturbed(1).files).empty());
}

TEST_CASE("changed settings are refused by name and another thread count is reported", "[train][resume]") {
  const TemporaryDirectory dir;
  REQUIRE(run(dir, 1).status == 0);
  const Ended changed = run(dir, 1, {}, "2e-2");
  CHECK(changed.status == 1);
  CHECK_THAT(changed.output, contains("schedule.peak was 0.01 and is now 0.02"));
  CHECK(differences(contents(dir), undisturbed(1).files).empty());
  const Ended threads = run(dir, 2);
  CHECK(threads.status == 0);
  CHECK_THAT(threads.output, contains("message: threads was 1 and is now 2"));
}
