// SPDX-License-Identifier: Apache-2.0
// The program `sweep` on a tiny model: it skips what is done, survives a kill, names what fails, and shares its runs
// out.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include <yaml-cpp/yaml.h>

#include "kdlib/io/json.hpp"
#include "kdlib/tools/folder_lock.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"

namespace {
using kdlib::Json;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

struct Job {
  TemporaryDirectory dir;
  explicit Job(const std::string& axes = "  lambda: [0, 1]\n  seed: [1, 2]\n", const std::string& more = "") {
    std::string prompts;
    for (int i = 0; i < 6; ++i) prompts += kdlib::concat("{\"prompt_ids\": [1, ", 10 + i, ", ", 40 + i, "]}\n");
    kdlib::write_file_atomically(dir / "p.jsonl", prompts);
    kdlib::write_file_atomically(
        file(), "out: " + out() + "\nsettings:\n  teacher: " + reference_file("models/llama") +
                    "\n  prompts: " + (dir / "p.jsonl") + "\n  validation: " + (dir / "p.jsonl") +
                    "\n  steps: 2\n  batch: 2\n  max-new-tokens: 4\n  lora-rank: 2\n  group-size: 32\n  threads: 1\n" +
                    more + "grid:\n" + axes);
  }
  std::string file() const { return dir / "s.yaml"; }
  std::string out() const { return dir / "out"; }
  std::string run_file(const std::string& run, const std::string& name) const {
    return out() + "/runs/" + run + "/" + name;
  }
};

std::string log_of(const Job& job, const std::string& run) {
  return kdlib::read_file(job.out() + "/logs/" + run + ".log");
}

}  // namespace

TEST_CASE("a sweep runs its grid, writes its files and skips what is done", "[programs]") {
  const Job job;
  const ProgramAnswer first = run_program("sweep", job.file() + " --jobs 2");
  INFO(first.error);
  REQUIRE(first.status == 0);
  CHECK(first.out.find("| lambda | runs |") != std::string::npos);
  for (const char* name : {"table.md", "sweep.json", "plot.svg", "report.html"})
    CHECK(kdlib::path_exists(job.out() + "/" + name));
  CHECK(kdlib::read_file(job.out() + "/table.md") == first.out);
  const std::string result = kdlib::read_file(job.run_file("lambda=1,seed=2", "result.json"));
  CHECK(log_of(job, "lambda=1,seed=2").find("step 2") != std::string::npos);

  const ProgramAnswer refused = run_program("sweep", job.file());
  CHECK(refused.status == 2);
  CHECK(refused.error.find("--resume") != std::string::npos);
  kdlib::remove_tree(job.out() + "/runs/lambda=0,seed=1");
  const ProgramAnswer again = run_program("sweep", job.file() + " --resume");
  CHECK(again.status == 0);
  CHECK(again.error.find("3 runs are done already") != std::string::npos);
  CHECK(kdlib::read_file(job.run_file("lambda=1,seed=2", "result.json")) ==
        result);  // its seconds too: it was not run again
}

TEST_CASE("a sweep takes no folder of somebody else's, and none that its runs read", "[programs]") {
  const Job job;
  kdlib::make_directories(job.out() + "/runs");
  for (const char* name : {"report.html", "table.md", "sweep.json"})
    kdlib::write_file_atomically(job.out() + "/" + name, "MINE");
  for (const char* how : {"", " --resume", " --table"}) {
    const ProgramAnswer answer = run_program("sweep", job.file() + how);
    CHECK(answer.status == 2);
    CHECK_THAT(answer.error, contains("no sweep's"));
  }
  for (const char* name : {"report.html", "table.md", "sweep.json"})
    CHECK(kdlib::read_file(job.out() + "/" + name) == "MINE");
}

TEST_CASE("a run that fails is named in the table, the others go on", "[programs]") {
  const Job job("  quantize: [int4, nf4]\n  train: [lora, all]\n",
                "  lora-alpha: 4\n");  // --train all takes no adapter options
  const ProgramAnswer answer = run_program("sweep", job.file());
  CHECK(answer.status == 1);
  CHECK(answer.out.find("2 of 4 runs have no result") != std::string::npos);
  CHECK(answer.out.find("- quantize=nf4,train=all: failed, error: [distil]") != std::string::npos);
  const Json runs = Json::parse_file(job.out() + "/sweep.json").at("runs");
  CHECK(runs[0].at("state").as_string() == "done");
  CHECK(runs[1].at("state").as_string() == "failed");
}

TEST_CASE("a killed sweep goes on where it was", "[programs]") {
  const Job job("  seed: [1, 2, 3]\n", "  save-every: 1\n");
  const std::string program = kdlib_tests::program_path("sweep"), file = job.file();
  // The run inside of the killed sweep is orphaned: it becomes a child of this process and dies with its group.
  REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setpgid(0, 0);
    if (::freopen("/dev/null", "w", stderr) == nullptr || ::freopen("/dev/null", "w", stdout) == nullptr) ::_exit(126);
    ::execl(program.c_str(), program.c_str(), file.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  REQUIRE(child > 0);
  // Killed as soon as the first run is done (it may be later in the second): waiting for a file, not for a time.
  int status = 0;
  while (!kdlib::path_exists(job.run_file("seed=1", "result.json")) && ::waitpid(child, &status, WNOHANG) == 0) {
    const struct timespec pause { 0, 2000000 };
    ::nanosleep(&pause, nullptr);
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  const std::string result = kdlib::read_file(job.run_file("seed=1", "result.json"));
  // The orphan may still be saving: the sweep waits for the lock of its log.
  const ProgramAnswer answer = run_program("sweep", job.file() + " --resume");
  INFO(answer.error);
  CHECK(answer.status == 0);
  CHECK(kdlib::read_file(job.run_file("seed=1", "result.json")) == result);
  CHECK(answer.out.find("have no result") == std::string::npos);
}

TEST_CASE("a second sweep in a folder at work is refused, and lost output is told", "[programs]") {
  const Job job;
  kdlib::make_directories(job.out());
  kdlib::SharedFolderLock lock;
  REQUIRE(lock.try_take(job.out(), kdlib::SharedFolderLock::Mode::alone));
  for (const char* option : {"", " --resume", " --only 1/2"}) {
    const ProgramAnswer refused = run_program("sweep", job.file() + option);
    CHECK(refused.status == 1);
    CHECK_THAT(refused.error, contains("another sweep is at work in this folder"));
  }
  CHECK_FALSE(kdlib::path_exists(job.out() + "/runs"));
  for (const char* command : {" --table", " --dry-run", " --help"}) {
    const std::string messages = job.dir / "messages";
    const int status = ::system(
        (kdlib_tests::program_path("sweep") + " " + job.file() + command + " > /dev/full 2> " + messages).c_str());
    CHECK(WEXITSTATUS(status) == 1);
    CHECK_THAT(kdlib::read_file(messages), contains("standard output could not be written"));
  }
}

TEST_CASE("a grid of a million runs is told at once, a larger one refused", "[programs]") {
  const auto axis = [](const char* name, int values) {
    std::string text = kdlib::concat("  ", name, ": [1");
    for (int v = 2; v <= values; ++v) text += kdlib::concat(", ", v);
    return text + "]\n";
  };
  const Job million(axis("seed", 1000) + axis("steps", 1000));
  const ProgramAnswer told = run_program("sweep", million.file() + " --dry-run");
  CHECK(told.status == 0);
  CHECK_THAT(told.out, contains("1000000 runs"));
  CHECK(told.out.size() < 10'000);
  const ProgramAnswer refused = run_program("sweep", million.file());
  CHECK(refused.status == 2);
  CHECK_THAT(refused.error, contains("50000 at most"));
  const Job huge(axis("seed", 1000) + axis("steps", 1000) + axis("batch", 1000) + axis("warmup", 1000));
  const ProgramAnswer never = run_program("sweep", huge.file() + " --dry-run");
  CHECK(never.status == 2);
  CHECK_THAT(never.error, contains("1000 x 1000 x 1000 x 1000 runs"));
}

TEST_CASE("--only shares the runs out and --table gathers them", "[programs]") {
  const Job job;
  CHECK(run_program("sweep", job.file() + " --only 1/3").status == 0);
  CHECK(kdlib::path_exists(job.run_file("lambda=0,seed=1", "result.json")));
  CHECK(kdlib::path_exists(job.run_file("lambda=1,seed=2", "result.json")));
  CHECK_FALSE(kdlib::path_exists(job.run_file("lambda=0,seed=2", "result.json")));
  CHECK_FALSE(kdlib::path_exists(job.out() + "/table.md"));
  const ProgramAnswer part = run_program("sweep", job.file() + " --table");
  CHECK(part.status == 0);
  CHECK(part.out.find("2 of 4 runs have no result") != std::string::npos);
  CHECK(run_program("sweep", job.file() + " --only 2/3").status == 0);
  CHECK(run_program("sweep", job.file() + " --only 3/3").status == 0);
  CHECK(run_program("sweep", job.file() + " --table").out.find("have no result") == std::string::npos);
  for (const char* wrong : {"0/3", "4/3", "x", "1/", "1/2x"})
    CHECK(run_program("sweep", job.file() + " --only " + wrong).status == 2);
}

TEST_CASE("--dry-run lists the commands with an estimate and runs nothing", "[programs]") {
  const Job job("  lambda: [0, 2]\n");
  const ProgramAnswer answer = run_program("sweep", job.file() + " --dry-run");
  CHECK(answer.status == 1);  // lambda 2 is refused by distil
  CHECK(answer.out.find("lambda=0  about 0:0") != std::string::npos);
  CHECK(answer.out.find("--lambda=0 --out=") != std::string::npos);
  CHECK(answer.out.find("lambda=2  error:") != std::string::npos);
  CHECK_FALSE(kdlib::path_exists(job.out()));
}

TEST_CASE("the launch files parse and start the same commands", "[programs]") {
  const std::string folder = kdlib_tests::source_dir() + "/scripts/launch/", slurm = folder + "sweep.slurm";
  CHECK(::system(("sh -n " + slurm).c_str()) == 0);
  const YAML::Node job = YAML::LoadFile(folder + "sweep.kubernetes.yaml"),
                   container = job["spec"]["template"]["spec"]["containers"][0];
  CHECK(job["kind"].Scalar() == "Job");
  CHECK(job["spec"]["completionMode"].Scalar() == "Indexed");
  // Both are run with the variables their system sets; two of two share the runs of a grid.
  const Job grid("  seed: [1, 2]\n");
  const std::string bin = kdlib_tests::program_path("sweep").substr(0, kdlib_tests::program_path("sweep").rfind('/'));
  CHECK(::system(("SWEEP=" + grid.file() + " BIN=" + bin +
                  " SLURM_ARRAY_TASK_ID=2 SLURM_ARRAY_TASK_COUNT=2 SLURM_CPUS_PER_TASK=1 sh " + slurm +
                  " > /dev/null 2>&1")
                     .c_str()) == 0);
  CHECK(kdlib::path_exists(grid.run_file("seed=2", "result.json")));
  CHECK_FALSE(kdlib::path_exists(grid.run_file("seed=1", "result.json")));
  kdlib::write_file_atomically(grid.dir / "args", container["args"][0].Scalar());
  CHECK(job["spec"]["completions"].Scalar() == container["env"][1]["value"].Scalar());
  CHECK(::system(("PATH=" + bin + ":$PATH SWEEP=" + grid.file() + " JOB_COMPLETION_INDEX=0 RUNS_IN=2 CPUS=1 sh -eu " +
                  (grid.dir / "args") + " > /dev/null 2>&1")
                     .c_str()) == 0);
  CHECK(kdlib::path_exists(grid.run_file("seed=1", "result.json")));
  CHECK(::system(("SWEEP=" + grid.file() + " BIN=" + bin + " TABLE=1 sh " + slurm + " > /dev/null 2>&1").c_str()) == 0);
  CHECK(kdlib::path_exists(grid.out() + "/table.md"));
}
