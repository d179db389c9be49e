// SPDX-License-Identifier: Apache-2.0
// vpmoe_student --stage: rows to token files to a student in three stages on toy models, every metric under its name, a
// run that is killed again and again, the plan for the real thing, refusals.
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "kdlib/core/clock.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

const std::string examples = source_dir() + "/examples/data/";

/// Token files of the bundled rows with the toy tokenizer.
std::string make_files(const TemporaryDirectory& folder) {
  const ProgramAnswer answer =
      run_program("synth", "--input " + examples + "synth_rows.jsonl --tokenizer " + examples + "toy_harmony --out " +
                               (folder / "files") + " --split 0.1 --identity Toy. --max-length 512");
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  return folder / "files";
}

std::string arguments(const std::string& files, const std::string& out) {
  return "--stage all --random-weights --tokenizer " + examples + "toy_harmony --data " + files + " --out " + out +
         " --canary " + out +
         ".canary.jsonl --steps 4,4,8 --batch-tokens 600 --fraction 0.2 --rescored-share 0.5 --rollouts 4 --caps "
         "8,12,16 --opd-tokens 200 --anchor 0.25 --deterministic --warmup 1 --save-every 2 --evaluate-every 4 "
         "--evaluate-documents 6 --evaluate-prompts 3 --evaluate-tokens 12 --threads 1";
}

void write_canary(const std::string& out) {
  write_file_atomically(out + ".canary.jsonl", "{\"text\":\"The sea is salt.\"}\n{\"prompt\":\"What is 5 + 5?\"}\n");
}

/// Names in a stage's metrics.
std::set<std::string> names_of(const std::string& folder) {
  std::set<std::string> names;
  JsonlReader reader(folder + "/metrics.jsonl");
  while (const auto line = reader.next())
    for (const auto& member : line->members()) names.insert(std::string(member.key));
  return names;
}

void check_names(const std::string& folder, const std::vector<std::string>& expected) {
  const std::set<std::string> names = names_of(folder);
  for (const std::string& name : expected) {
    CAPTURE(folder, name);
    CHECK(names.count(name) == 1);
  }
}

/// What timeout says of a program that ended by itself in the moment in which it was to be killed (124: its own status
/// is lost; the next start tells whether it was done).
constexpr int ended_in_time = 124;

}  // namespace

TEST_CASE("three stages from rows to a student, every metric under its name, and the same bits after many kills",
          "[programs][vpmoe]") {
  const TemporaryDirectory folder;
  const std::string files = make_files(folder), whole = folder / "whole", killed = folder / "killed";
  write_canary(whole);
  write_canary(killed);
  const double begin = steady_seconds();
  const ProgramAnswer answer = run_program("vpmoe_student", arguments(files, whole));
  const double took = steady_seconds() - begin;
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  const std::vector<std::string> always{
      "train/tokens_per_s",         "device/busy_fraction",     "device/free_bytes",       "experts/entropy",
      "experts/max_share",          "experts/balance",          "train/loss/reasoning",    "train/loss/final",
      "train/tokens/reasoning",     "train/tokens/final",       "evaluation/synth_loss",   "evaluation/synth_final",
      "evaluation/synth_reasoning", "evaluation/valid",         "evaluation/canary_loss",  "evaluation/canary_ratio",
      "evaluation/canary_valid",    "evaluation/canary_length", "evaluation/canary_repeat"};
  for (const char* stage : {"/stage1", "/stage2", "/stage3"}) check_names(whole + stage, always);
  check_names(whole + "/stage2",
              {"train/kind", "teacher/example_logp", "teacher/example_logp_sd", "teacher/logp/reasoning",
               "teacher/logp_sd/final", "teacher/logp_bin7/final", "train/confidence_center", "train/confidence_mean",
               "train/confidence_low", "train/confidence_high"});
  check_names(whole + "/stage3",
              {"train/kind", "curriculum/fraction", "train/gap/reasoning", "train/ratio", "train/clamp_fraction",
               "train/mismatch", "rollout/valid", "rollout/truncated", "buffer/staleness", "buffer/ready",
               "buffer/open", "buffer/level", "buffer/wait_seconds", "buffer/write_seconds", "buffer/score_seconds"});
  std::set<std::string> modes;
  for (const std::string& name : names_of(whole + "/stage3"))
    if (name.starts_with("rollout/length_reasoning/")) modes.insert(name);
  CHECK(!modes.empty());
  const std::vector<double> loss = metric_of_run(whole + "/stage1", "train/loss");
  CHECK(loss.back() < loss.front());
  CHECK(metric_of_run(whole + "/stage1", "evaluation/canary_ratio").front() == Approx(1));
  CHECK(path_exists(whole + "/report.html"));
  CHECK_THAT(run_program("vpmoe_student", arguments(files, whole)).error, contains("stage 3 is done"));
  int kills = 0;
  for (const int place : {11, 37, 24, 52, 18, 45, 31, 60}) {  // percent of the time that all of it takes
    const std::string command = "timeout --foreground -s KILL " + std::to_string(0.01 * place * took) + " " +
                                program_path("vpmoe_student") + " " + arguments(files, killed) + " > /dev/null 2>&1";
    const int status = ::system(command.c_str());
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0) break;
    if (WEXITSTATUS(status) == ended_in_time) break;
    REQUIRE(WEXITSTATUS(status) == 128 + SIGKILL);
    ++kills;
  }
  CHECK(kills >= 2);
  // A signal that can be caught saves what is there.
  const std::string stop = "timeout --preserve-status -s TERM " + std::to_string(0.3 * took) + " " +
                           program_path("vpmoe_student") + " " + arguments(files, killed) + " > /dev/null 2>&1";
  const int status = WEXITSTATUS(::system(stop.c_str()));
  CHECK((status == 0 || status == 128 + SIGTERM));
  WARN("killed " << kills << " times");
  REQUIRE(run_program("vpmoe_student", arguments(files, killed)).status == 0);
  for (const char* stage : {"/stage1", "/stage2", "/stage3", "/rescored", "/random"}) {
    CAPTURE(stage);
    CHECK(differences(run_files(killed + stage), run_files(whole + stage)) == "");
  }
}

TEST_CASE("stage 3 killed at random moments has every ticket once and in order: the bytes of a run that nothing cut",
          "[programs][vpmoe]") {
  const TemporaryDirectory folder;
  const std::string files = make_files(folder), whole = folder / "whole", killed = folder / "killed";
  const auto stage_3 = [&](const std::string& out) {
    return "--stage 3 --random-weights --tokenizer " + examples + "toy_harmony --data " + files + " --out " + out +
           " --steps 1,1,16 --batch-tokens 400 --rollouts 4 --caps 8,12,16 --opd-tokens 500 --anchor 0.25 "
           "--staleness 2 --deterministic --warmup 1 --save-every 1 --evaluate-every 0 --threads 1";
  };
  const double begin = steady_seconds();
  REQUIRE(run_program("vpmoe_student", stage_3(whole)).status == 0);
  const double took = steady_seconds() - begin;
  const auto expected = run_files(whole + "/stage3");
  const char* asked = ::getenv("KDLIB_TEST_KILLS");
  const int wanted = asked != nullptr ? std::max(1, std::atoi(asked)) : 4;
  const auto seed = static_cast<std::uint64_t>(steady_seconds() * 1e6);  // other moments every time; a failure says it
  CAPTURE(seed, wanted, took);
  int kills = 0, runs = 0, finished = 0;
  for (; kills < wanted; ++runs) {
    REQUIRE(runs < 10 * wanted + 20);
    const double moment = took * Rng(seed, RngPurpose::test, 0, 0).uniform(static_cast<std::uint32_t>(runs));
    const std::string command = "timeout --foreground -s KILL " + std::to_string(0.02 + moment) + " " +
                                program_path("vpmoe_student") + " " + stage_3(killed) + " > /dev/null 2>&1";
    const int status = ::system(command.c_str());
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 128 + SIGKILL) {
      ++kills;
      continue;
    }
    if (WEXITSTATUS(status) == ended_in_time) continue;
    REQUIRE(WEXITSTATUS(status) == 0);
    REQUIRE(differences(run_files(killed + "/stage3"), expected) == "");
    ++finished;
    remove_tree(killed);
  }
  REQUIRE(run_program("vpmoe_student", stage_3(killed)).status == 0);
  CHECK(differences(run_files(killed + "/stage3"), expected) == "");
  WARN("killed " << kills << " times in " << finished + 1 << " runs");
}

TEST_CASE("three stages by a chat template: the thought inside <think>, the same metrics and canary questions",
          "[programs][vpmoe]") {
  const TemporaryDirectory folder;
  const std::string out = folder / "out", files = folder / "files";
  write_file_atomically(folder / "think.jinja",
                        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}{% if m.role == "
                        "'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt "
                        "%}<|start|>assistant<|message|>{% endif %}");
  const std::string synth = "--input " + examples + "synth_rows.jsonl --tokenizer " + examples + "toy_harmony --out " +
                            files + " --split 0.1 --effort medium --template " + (folder / "think.jinja");
  const ProgramAnswer made = run_program("synth", synth);
  CAPTURE(made.error);
  REQUIRE(made.status == 0);
  CHECK_THAT(made.out, contains("187 documents") && contains("1 invalid"));  // a row has </think> in its answer
  write_canary(out);
  const ProgramAnswer answer = run_program("vpmoe_student", arguments(files, out));
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  check_names(out + "/stage3", {"rollout/valid", "rollout/truncated", "train/gap/reasoning", "evaluation/valid",
                                "evaluation/canary_valid", "evaluation/canary_length", "curriculum/fraction"});
  // The settings are those of the template's text, too.
  write_file_atomically(folder / "think.jinja", read_file(folder / "think.jinja") + " ");
  CHECK_THAT(run_program("synth", synth).error, contains("is a shard of the run"));
}

TEST_CASE("stage 2b refuses scored parts of other files, another teacher or another selection", "[programs][vpmoe]") {
  const TemporaryDirectory folder;
  const std::string files = make_files(folder), out = folder / "out", other = folder / "other";
  const std::string shared = " --random-weights --tokenizer " + examples +
                             "toy_harmony --steps 1,1,1 --batch-tokens 600 --evaluate-every 0 --threads 1 --out " + out;
  const auto run = [&](const std::string& more) { return run_program("vpmoe_student", more + shared); };
  REQUIRE(run("--stage 2a --fraction 0.2 --data " + files).status == 0);
  REQUIRE(run_program("synth", "--input " + examples + "synth_rows.jsonl --tokenizer " + examples +
                                   "toy_harmony --split 0.1 --identity Other. --out " + other)
              .status == 0);
  const std::string there{Json::parse_file(files + "/manifest.json").at("run").as_string()},
      here{Json::parse_file(other + "/manifest.json").at("run").as_string()};
  CHECK_THAT(run("--stage 2b --data " + other).error,
             contains("the token files '" + there + "', and '" + here + "' is needed"));
  CHECK_THAT(run("--stage 2b --fraction 0.3 --data " + files).error, contains("'0.2', and '0.3' is needed"));
  CHECK_THAT(run("--stage 2b --min-reasoning 2 --data " + files).error, contains("'1', and '2' is needed"));
  CHECK_THAT(run("--stage 2b --data " + files + " --teacher " + out + "/random/student").error,
             contains("log-probabilities of the teacher 'sha256:") && contains("name the teacher that scored them"));
  CHECK_THAT(run("--stage 2a --fraction 0.3 --data " + files).error,
             contains("fraction is '0.2' there and '0.3' here"));
  CHECK_FALSE(path_exists(out + "/stage2/metrics.jsonl"));
  // What nobody names is not compared, and whose parts they are is said.
  const ProgramAnswer plain = run("--stage 2b --data " + files);
  CHECK(plain.status == 0);
  CHECK_THAT(plain.error, contains("were scored by sha256:") && contains("give --teacher"));
}

TEST_CASE("the plan for the real thing shows its arithmetic; stages refuse what is not there", "[programs][vpmoe]") {
  const ProgramAnswer plan = run_program("vpmoe_student", "--stage all --dry-run");
  CHECK(plan.status == 0);
  CHECK_THAT(plan.out, contains("1 H200 trains, 7 write and score") && contains("stage 3, 8.00 B tokens of own text"));
  CHECK_THAT(plan.out, contains("1.00 B tokens x 6 x") && contains("device hours"));
  const auto error = [](const std::string& arguments) { return run_program("vpmoe_student", arguments).error; };
  CHECK_THAT(error("--stage 1"), contains("give --data"));
  CHECK_THAT(error("--stage 1 --data x"), contains("give --student"));
  CHECK_THAT(error("--stage 3 --data x"), contains("give --teacher"));
  CHECK_THAT(error("--stage all --data x --random-weights"), contains("give --tokenizer"));
  CHECK_THAT(error("--stage all --dry-run --steps 1,2"), contains("--steps is '1,2'; it takes 3 numbers"));
  CHECK_THAT(error("--stage 4"), contains("--stage"));
  const TemporaryDirectory folder;
  const std::string files = make_files(folder), model = reference_file("models/llama");
  CHECK_THAT(error("--stage 2b --data " + files + " --out " + (folder / "out")), contains("run stage 1 first"));
  CHECK_THAT(error("--stage 1 --data " + files + " --student " + model + " --out " + (folder / "out")),
             contains("tokenizer"));
  CHECK_THAT(error("--stage 1 --data " + (folder / "none") + " --random-weights --tokenizer " + examples +
                   "toy_harmony --out " + (folder / "out")),
             contains("manifest.json"));
  CHECK_THAT(error("--stage 2b --data " + files + " --random-weights --tokenizer " + examples + "toy_harmony --out " +
                   (folder / "out")),
             contains("stage 2a is not done"));
  make_directories(folder / "own/random/teacher");
  CHECK_THAT(error("--stage 1 --data " + files + " --random-weights --tokenizer " + examples + "toy_harmony --out " +
                   (folder / "own")),
             contains("own/random was not made by this program"));
  CHECK(is_directory(folder / "own/random/teacher"));
  CHECK_THAT(error("--stage 1 --data " + files + " --random-weights --seed 9 --tokenizer " + examples +
                   "toy_harmony --out " + (folder / "out")),
             contains("holds models of another seed or tokenizer"));
  write_file_atomically(folder / "bad.jsonl", "{\"text\":\"a b\"}\n{\"words\":1}\n");
  CHECK_THAT(error("--stage 1 --data " + files + " --random-weights --tokenizer " + examples + "toy_harmony --out " +
                   (folder / "out") + " --canary " + (folder / "bad.jsonl")),
             contains("bad.jsonl:2") && contains("\"text\" or \"prompt\""));
}
