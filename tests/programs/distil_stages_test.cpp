// SPDX-License-Identifier: Apache-2.0
// distil --stages: killed at many writes and started again, it ends with the bytes of a run that was not.
#include <signal.h>
#include <stdlib.h>

#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

using namespace kdlib_tests;

namespace {

const char* const with_hook = "distil_with_faults";

struct Job {
  TemporaryDirectory dir;

  Job() {
    std::string data;
    for (int i = 0; i < 12; ++i)
      data += kdlib::concat("{\"ids\": [1, ", 10 + i, ", ", 40 + 3 * i, ", ", 7 + i, ", ", 60 + i, "]}\n");
    kdlib::write_file_atomically(dir / "data.jsonl", data);
    kdlib::write_file_atomically(dir / "stages.yaml",
                                 "stages:\n"
                                 "  - {name: second, steps: 2, schedule: constant, learning_rate: 2e-3,\n"
                                 "     groups: [{pattern: lora_B, rate: 1}, {pattern: '.*', rate: 0}]}\n"
                                 "  - {name: all, epochs: 0.5, groups: [{pattern: lora_A, rate: 0.5}]}\n");
  }
  ProgramAnswer run(const std::string& more = "") const {
    return run_program(with_hook, "--teacher " + reference_file("models/llama") + " --data " + (dir / "data.jsonl") +
                                      " --validation " + (dir / "data.jsonl") + " --stages " + (dir / "stages.yaml") +
                                      " --out " + (dir / "out") +
                                      " --batch 2 --group-size 32 --lora-rank 4 --save-every 1 --threads 1 " + more);
  }
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> out;
    for (auto& [name, text] : run_files(dir / "out"))
      if (name == "metrics.jsonl" || name.find(".safetensors") != std::string::npos) out[name] = text;
    return out;
  }
};

}  // namespace

TEST_CASE("distil --stages that is killed at any rename goes on in the open stage and ends with the same bytes",
          "[programs][distil][stages]") {
  if (!exists(program_path(with_hook))) KDLIB_SKIP("the program distil_with_faults is not built");
  const Job whole;
  const ProgramAnswer answer = whole.run();
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  CHECK_THAT(answer.error, contains("stage second: 2 steps") && contains("stage all: 3 steps") &&
                               contains("stage second: .*: frozen"));
  CHECK_THAT(answer.out, contains("after second"));
  int killed = 0;
  for (int n = 1; n <= 40; n += n < 8 ? 7 : 4) {
    const Job job;
    ::setenv("KDLIB_FAULT", kdlib::concat("rename:", n, ":kill").c_str(), 1);
    const ProgramAnswer first = job.run();
    ::unsetenv("KDLIB_FAULT");
    if (first.status == 0) break;
    REQUIRE((first.status == -1 || first.status == 128 + SIGKILL));
    ++killed;
    const ProgramAnswer second = job.run();
    INFO("killed at rename " << n << ": " << second.error);
    REQUIRE(second.status == 0);
    CHECK(differences(job.files(), whole.files()) == "");
  }
  CHECK(killed > 4);
}

TEST_CASE("distil refuses to go on with another stages file", "[programs][distil][stages]") {
  if (!exists(program_path(with_hook))) KDLIB_SKIP("the program distil_with_faults is not built");
  const Job job;
  REQUIRE(job.run().status == 0);
  CHECK_THAT(job.run().error, contains("this run is finished"));
  kdlib::write_file_atomically(job.dir / "stages.yaml", "stages: [{name: one, steps: 2}]\n");
  const ProgramAnswer answer = job.run();
  CHECK(answer.status == 1);
  CHECK_THAT(answer.error, contains("--stages") && contains("stages.yaml has other text than when this run began"));
  const ProgramAnswer steps = job.run("--steps 3");
  CHECK(steps.status == 2);
  CHECK_THAT(steps.error, contains("--steps is the length of a run without stages"));
}
