// SPDX-License-Identifier: Apache-2.0
// The program `distil` as a user runs it, on a tiny model: what it writes, that kills and signals change nothing of it,
// and its errors.
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>

#include "kdlib/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

namespace {
using kdlib_tests::differences;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

/// The same source with the fault hook: one binary for all runs that are compared, since a checkpoint names the
/// program.
const char* const with_hook = "distil_with_faults";

std::string prompts(int first, int count) {
  std::string out;
  for (int i = first; i < first + count; ++i)
    out += kdlib::concat("{\"prompt_ids\": [1, ", 10 + i, ", ", 40 + 3 * i % 200, ", ", 7 + i % 50, "]}\n");
  return out;
}

/// A folder with prompts and held-out prompts, and the command line of a short run that mixes both kinds of text.
struct Job {
  TemporaryDirectory dir;
  std::string arguments;

  /// `more` replaces options of the same name; `without` leaves one out.
  explicit Job(const std::string& more = "", const std::string& without = "--") {
    kdlib::write_file_atomically(dir / "prompts.jsonl", prompts(0, 12));
    kdlib::write_file_atomically(dir / "validation.jsonl", prompts(100, 4));
    const std::pair<const char*, std::string> options[] = {{"--teacher", reference_file("models/llama")},
                                                           {"--prompts", dir / "prompts.jsonl"},
                                                           {"--validation", dir / "validation.jsonl"},
                                                           {"--out", out()},
                                                           {"--steps", "6"},
                                                           {"--batch", "3"},
                                                           {"--micro-batches", "2"},
                                                           {"--max-new-tokens", "9"},
                                                           {"--lambda", "0.5"},
                                                           {"--lora-rank", "4"},
                                                           {"--group-size", "32"},
                                                           {"--warmup", "2"},
                                                           {"--save-every", "2"},
                                                           {"--evaluate-every", "3"},
                                                           {"--learning-rate", "0.002"}};
    arguments = more;
    const bool rounds = more.find("--quantize none") == std::string::npos;
    for (const auto& [name, value] : options)
      if ((rounds || name != std::string("--group-size")) &&
          (" " + more + " ").find(std::string(" ") + name + " ") == std::string::npos && without != name)
        arguments += std::string(" ") + name + " " + value;
  }
  std::string out() const { return dir / "out"; }
  std::map<std::string, std::string> files() const {
    auto all = kdlib_tests::run_files(out());
    all["result.json"] = without_times(all["result.json"]);
    all["report.html"] = all.count("report.html") != 0 && !all["report.html"].empty() ? "a report" : "";
    all.erase("config.yaml");         // says --resume
    all.erase("outputs.json");        // checksums of files that name the folder
    for (auto& [name, text] : all) {  // settings and messages name the folder, and checksums follow them
      if (name.find("checksums.json") != std::string::npos) text = "sums";
      for (std::size_t at = text.find(dir.path()); at != std::string::npos; at = text.find(dir.path(), at))
        text.replace(at, dir.path().size(), "DIR");
    }
    return all;
  }
  /// The final table's numbers and the answers; seconds and facts of the machine aside.
  static std::string without_times(const std::string& text) {
    if (text.empty()) return "";
    const kdlib::Json json = kdlib::Json::parse(text, "result.json");
    std::string out;
    for (const kdlib::Json& row : json.at("models"))
      for (const auto& member : row.members())
        out += std::string(member.key) + "=" +
               (member.value.is_number() ? kdlib_tests::exact(member.value.as_double())
                                         : std::string(member.value.as_string())) +
               "\n";
    for (const kdlib::Json& sample : json.at("samples"))
      for (const auto& answer : sample.at("answers").members()) out += std::string(answer.value.as_string()) + "\n";
    return out;
  }
};

const std::map<std::string, std::string>& undisturbed(int threads) {
  static std::map<int, std::map<std::string, std::string>> made;
  if (made.count(threads) == 0) {
    const Job job("--threads " + std::to_string(threads));
    const ProgramAnswer answer = run_program(with_hook, job.arguments);
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    made[threads] = job.files();
  }
  return made.at(threads);
}

/// Starts the build of distil with the fault hook; true when it was killed.
bool killed_at(const Job& job, const std::string& fault) {
  ::setenv("KDLIB_FAULT", fault.c_str(), 1);
  const ProgramAnswer answer = run_program(with_hook, job.arguments);
  ::unsetenv("KDLIB_FAULT");
  return answer.status == -1 || answer.status == 128 + SIGKILL;
}
}  // namespace

TEST_CASE("distil writes an adapter, metrics, checkpoints, a report and a table, and the student comes closer",
          "[programs][distil]") {
  const Job job("--threads 1");
  const ProgramAnswer answer = run_program(with_hook, job.arguments);
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  CHECK_THAT(answer.out,
             contains("teacher") && contains("rounded") && contains("distilled") && contains("Held-out forward KL"));
  for (const char* name :
       {"config.yaml", "metrics.jsonl", "result.json", "report.html", "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors", "checkpoints/6/state.json", "best/parameters.safetensors"})
    CHECK(kdlib::path_exists(job.out() + "/" + name));
  const kdlib::Json result = kdlib::Json::parse_file(job.out() + "/result.json");
  const auto models = result.at("models");
  REQUIRE(models.size() == 4);  // teacher, rounded, compensated, distilled
  CHECK(models[0].at("forward_kl").as_double() == 0);
  CHECK(models[1].at("forward_kl").as_double() > 0);
  for (const std::size_t later : {2u, 3u})
    CHECK(models[later].at("forward_kl").as_double() < models[1].at("forward_kl").as_double());

  const ProgramAnswer again = run_program(with_hook, job.arguments);
  CHECK(again.status == 0);
  CHECK(again.out == answer.out);
  CHECK_THAT(again.error, contains("finished"));
  CHECK(differences(job.files(), undisturbed(1)) == "");
}

TEST_CASE("distil killed at writes, fsyncs and renames ends as if nothing had been, with one and with two threads",
          "[programs][distil]") {
  for (const int threads : {1, 2}) {
    for (const char* kind : {"write", "fsync", "rename"}) {
      for (const int n : threads == 1 ? std::vector<int>{1, 4, 9, 20, 31} : std::vector<int>{13}) {
        INFO(kind << " " << n << ", " << threads << " threads");
        const Job job("--threads " + std::to_string(threads));
        CHECK(killed_at(job, kdlib::concat(kind, ":", n, ":kill")));
        const ProgramAnswer answer = run_program(with_hook, job.arguments);
        INFO(answer.error);
        REQUIRE(answer.status == 0);
        CHECK(differences(job.files(), undisturbed(threads)) == "");
      }
    }
  }
}

TEST_CASE("SIGTERM saves, says how to go on, and the same command ends as an undisturbed run", "[programs][distil]") {
  const Job job("--threads 1");
  const std::string shell =
      "sh -c '" + kdlib_tests::program_path(with_hook) + " " + job.arguments + " 2> " + (job.dir / "error") +
      " & pid=$!; while ! grep -q \"\\\"step\\\":2\" " + job.out() +
      "/metrics.jsonl 2> /dev/null; do kill -0 $pid || break; done; kill -TERM $pid; wait $pid; echo $? > " +
      (job.dir / "status") + "' > /dev/null 2>&1";
  REQUIRE(::system(shell.c_str()) == 0);
  const std::string status = kdlib::read_file(job.dir / "status"), error = kdlib::read_file(job.dir / "error");
  INFO(error);
  if (status != "0\n") {  // the signal came before the end
    CHECK(status == "143\n");
    CHECK_THAT(error, contains("same command"));
  }
  const ProgramAnswer answer = run_program(with_hook, job.arguments);
  REQUIRE(answer.status == 0);
  std::map<std::string, std::string> files = job.files(), expected = undisturbed(1);
  for (auto* all : {&files, &expected})  // the save on the signal is a checkpoint more; the newest two are kept
    for (auto at = all->begin(); at != all->end();)
      at = at->first.rfind("checkpoints/", 0) == 0 && at->first.rfind("checkpoints/6/", 0) != 0 ? all->erase(at)
                                                                                                : std::next(at);
  CHECK(differences(files, expected) == "");
}

TEST_CASE("a second distil on the same folder is refused while the first runs", "[programs][distil]") {
  const Job job("--threads 1 --steps 40");
  const std::string shell = "sh -c '" + kdlib_tests::program_path(with_hook) + " " + job.arguments +
                            " & pid=$!; while ! test -s " + job.out() +
                            "/metrics.jsonl; do kill -0 $pid || break; done; " + kdlib_tests::program_path(with_hook) +
                            " " + job.arguments + " 2> " + (job.dir / "error") + "; echo $? > " + (job.dir / "status") +
                            "; kill -9 $pid; wait $pid; true' > /dev/null 2>&1";
  REQUIRE(::system(shell.c_str()) == 0);
  const std::string error = kdlib::read_file(job.dir / "error");
  CHECK(kdlib::read_file(job.dir / "status") == "1\n");
  CHECK_THAT(error, contains("in use by another process"));
}

TEST_CASE("changed settings are refused by name, and --resume no starts over", "[programs][distil]") {
  const Job job("--threads 1");
  REQUIRE(run_program(with_hook, job.arguments).status == 0);
  const ProgramAnswer changed = run_program(with_hook, job.arguments + " --beta2 0.99");
  CHECK(changed.status == 2);
  CHECK_THAT(changed.error, contains("beta2") && contains("0.999") && contains("--resume no"));
  const ProgramAnswer over = run_program(with_hook, job.arguments + " --resume no");
  CHECK(over.status == 0);
  CHECK(differences(job.files(), undisturbed(1)) == "");
}

TEST_CASE("what a run wrote is read back; changed inputs and damaged checkpoints are told", "[programs][distil]") {
  const Job job("--threads 1 --lora-targets q_proj v_proj");
  REQUIRE(run_program(with_hook, job.arguments).status == 0);
  for (const std::string& again : {job.arguments, "--config " + job.out() + "/config.yaml"}) {
    const ProgramAnswer found = run_program(with_hook, again);
    INFO(found.error);
    CHECK(found.status == 0);
    CHECK_THAT(found.error, contains("this run is finished"));
  }
  const std::string file = job.dir / "validation.jsonl", text = kdlib::read_file(file);
  kdlib::write_file_atomically(file, prompts(101, 4));
  const ProgramAnswer changed = run_program(with_hook, job.arguments);
  CHECK(changed.status == 1);
  CHECK_THAT(changed.error, contains("--validation " + file + " has other text than when this run began"));
  kdlib::write_file_atomically(file, text);

  const std::string weights = job.out() + "/checkpoints/6/parameters.safetensors";
  std::string bytes = kdlib::read_file(weights);
  bytes[bytes.size() - 3] = static_cast<char>(bytes[bytes.size() - 3] ^ 8);
  kdlib::write_file_atomically(weights, bytes);
  kdlib::remove_tree(job.out() + "/result.json");
  const ProgramAnswer mended = run_program(with_hook, job.arguments);
  INFO(mended.error);
  CHECK(mended.status == 0);
  CHECK_THAT(mended.error, contains("checkpoint 6 is damaged") && contains(weights) && contains("goes on from step 4"));
  CHECK(kdlib::path_exists(job.out() + "/result.json"));
}

TEST_CASE("a full disk and an unwritable folder are errors that name the path", "[programs][distil]") {
  const Job job("--threads 1");
  ::setenv("KDLIB_FAULT", "write:9:enospc", 1);
  const ProgramAnswer full = run_program(with_hook, job.arguments);
  ::unsetenv("KDLIB_FAULT");
  CHECK(full.status == 1);
  CHECK_THAT(full.error, contains("No space left") && contains(job.dir.path()));
  const ProgramAnswer after = run_program(with_hook, job.arguments);
  CHECK(after.status == 0);
  CHECK(differences(job.files(), undisturbed(1)) == "");

  const Job other("--out " + (job.dir / "prompts.jsonl") + "/out");
  const ProgramAnswer below = run_program(with_hook, other.arguments);
  CHECK(below.status == 1);
  CHECK_THAT(below.error, contains("prompts.jsonl") && contains("a folder is needed"));
}

TEST_CASE("training through codes survives a kill bit for bit, and the exported model is the trained one",
          "[programs][distil]") {
  for (const std::string& more :
       {std::string("--train qat_lora --straight-through clipped"), std::string("--train all --quantize nf4"),
        std::string("--train scales --quantize-rule affine")}) {
    const std::string without = more.find("qat_lora") == std::string::npos ? "--lora-rank" : "--";
    const Job left("--threads 1 " + more, without), killed("--threads 1 " + more, without);
    const ProgramAnswer first = run_program(with_hook, left.arguments);
    INFO(more << "\n" << first.error);
    REQUIRE(first.status == 0);
    CHECK_THAT(first.error, contains("exactly those that were trained"));
    CHECK(killed_at(killed, "write:30:kill"));
    REQUIRE(run_program(with_hook, killed.arguments).status == 0);
    CHECK(differences(killed.files(), left.files()) == "");
    // Read back as another run's student: its first row is the same held-out text.
    const Job back("--threads 1 --quantize none --steps 1 --warmup 1 --student " + left.out() + "/model");
    const ProgramAnswer second = run_program(with_hook, back.arguments);
    INFO(second.error);
    REQUIRE(second.status == 0);
    const auto row = [](const Job& job, std::size_t i) {
      return kdlib::Json::parse_file(job.out() + "/result.json").at("models")[i].at("forward_kl").as_double();
    };
    CHECK(std::abs(row(left, 2) - row(left, 1)) >
          1e-3 * row(left, 1));  // it moved; six steps on random weights need not help
    CHECK(std::abs(row(back, 1) - row(left, 2)) < 1e-5 * row(left, 2));
  }
  const Job merged("--threads 1 --merge");
  const ProgramAnswer warned = run_program(with_hook, merged.arguments);
  CHECK(warned.status == 0);
  CHECK_THAT(warned.error, contains("warning: model/") && contains("held-out forward KL") && contains("qat_lora"));
  CHECK(kdlib::path_exists(merged.out() + "/model/model.safetensors"));
  CHECK_THAT(run_program(with_hook, Job("--threads 1 --merge --quantize none").arguments).error,
             contains("--merge belongs to"));
  const Job none("--train scales --quantize none", "--lora-rank");
  CHECK_THAT(run_program(with_hook, none.arguments).error, contains("trains through codes"));
}

TEST_CASE("every divergence, all weights, given text and recomputation run", "[programs][distil]") {
  const std::string other = reference_file("models/llama3_rope_bias"),
                    all = "--train all --quantize none --lambda 0 --student " + other;
  for (const std::string& more :
       {std::string("--loss reverse_kl --lambda 1"), std::string("--loss jsd --beta 0.1 --temperature 2 --lambda 0"),
        all, std::string("--recompute --workspace 1 --schedule cosine --quantize-rule affine")}) {
    const Job job(more, more == all ? "--lora-rank" : "--");
    const ProgramAnswer answer = run_program(with_hook, job.arguments);
    INFO(more << "\n" << answer.error);
    CHECK(answer.status == 0);
    CHECK(kdlib::path_exists(job.out() + (more == all ? "/model/config.json" : "/adapter/adapter_config.json")));
  }
  const Job job("--lambda 0 --data", "--prompts");
  std::string text;
  for (int i = 0; i < 8; ++i)
    text += kdlib::concat("{\"ids\": [1, ", 20 + i, ", 30, 31, ", 50 + i, ", 2], \"loss_mask\": [0, 0, 0, 1, 1, 1]}\n");
  kdlib::write_file_atomically(job.dir / "data.jsonl", text);
  std::string line = job.arguments;
  line.replace(line.find("--data"), 6, "--data " + (job.dir / "data.jsonl"));
  const ProgramAnswer answer = run_program("distil", line);
  INFO(answer.error);
  CHECK(answer.status == 0);
  CHECK_FALSE(kdlib::path_exists(job.out() + "/text"));
}

TEST_CASE("help, wrong options and wrong files have their exit status and a next step", "[programs][distil]") {
  const ProgramAnswer help = run_program("distil", "--help");
  CHECK(help.status == 0);
  CHECK_THAT(help.out, contains("--teacher") && contains("default") && contains("tokens"));
  const ProgramAnswer misspelt = run_program("distil", "--teacher x --lamda 1");
  CHECK(misspelt.status == 2);
  CHECK_THAT(misspelt.error, contains("--lambda"));
  const ProgramAnswer missing = run_program("distil", "--teacher /no/such/model");
  CHECK(missing.status == 1);
  CHECK_THAT(missing.error, contains("/no/such/model"));
  const Job job;
  const Job other("--quantize none --student " +
                  reference_file("models/qwen3"));  // no tokenizers, equal sizes: accepted
  CHECK(run_program(with_hook, other.arguments).status == 0);
  CHECK_THAT(run_program(with_hook, job.arguments + " --quantize nf4 --quantize-rule affine").error,
             contains("--quantize-rule would have no effect: it is the rule of --quantize int3, int4 and int8"));
  CHECK_THAT(run_program(with_hook, job.arguments + " --top-p 0.9").error, contains("--accept-truncated-text"));
  const ProgramAnswer words =
      run_program("distil", "--group-size 32 --teacher " + reference_file("models/llama") + " --out " + job.out());
  CHECK(words.status == 1);
  CHECK_THAT(words.error, contains("prompt_ids"));
  const ProgramAnswer plan = run_program(with_hook, job.arguments + " --dry-run");
  CHECK(plan.status == 0);
  CHECK_THAT(plan.out, contains("predicted memory") && contains("GFLOP"));
  CHECK_FALSE(kdlib::path_exists(job.out()));
}
