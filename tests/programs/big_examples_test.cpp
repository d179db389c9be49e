// SPDX-License-Identifier: Apache-2.0
// The programs for big models: what they plan, that they refuse in time, and the whole way at tiny scale.
#include <algorithm>

#include "kdlib/io/json.hpp"
#include "kdlib/recipe/machines.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

namespace {
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

const char* const programs[] = {"qwen_32b_to_7b", "vpmoe_student"};
}  // namespace

TEST_CASE(
    "a dry run of the full scale prints parameters, operations, memory by part and time, for the CPU and for named "
    "devices",
    "[programs][big]") {
  const TemporaryDirectory folder;
  for (const char* program : programs)
    for (const char* device : {"cpu", "H200", "'rtx 4090'"}) {
      CAPTURE(program, device);
      const ProgramAnswer answer = run_program(
          program, std::string("--dry-run --random-weights --out ") + (folder / "out") + " --device " + device);
      CAPTURE(answer.error);
      REQUIRE(answer.status == 0);
      for (const char* text : {"parameters", "trained", "operations for a counted token", "student, training step",
                               "teacher, forward", "teacher's weights", "student's weights", "gradients", "optimiser",
                               "activations", "KV cache", "loss workspace", "total", "s a step"})
        CHECK_THAT(answer.out, contains(text));
      CHECK_THAT(answer.out, std::string(device) == "cpu" ? contains("measured:") : contains("assumed: 40 %"));
      CHECK_FALSE(kdlib::path_exists(folder / "out"));
    }
  CHECK_THAT(run_program(programs[0], "--dry-run --device h200").out,
             contains("32 763 876 352") && contains("7 615 616 512") && contains("it fits into"));
  CHECK_THAT(run_program(programs[1], "--dry-run --device h100").out,
             contains("8 821 654 528") && contains("it does not fit into"));
  const ProgramAnswer unknown = run_program(programs[0], "--dry-run --device TPU");
  CHECK(unknown.status == 2);
  CHECK_THAT(unknown.error, contains("'TPU'") && contains("H100, H200, A100, L40S, RTX 4090"));
}

TEST_CASE("the full scale is refused with the numbers where memory is too small, before anything is written",
          "[programs][big]") {
  const TemporaryDirectory folder;
  for (const char* program : programs) {
    if (kdlib::available_memory() > 200e9) KDLIB_SKIP("this machine could run it");
    const ProgramAnswer answer = run_program(program, std::string("--random-weights --out ") + (folder / "out"));
    CHECK(answer.status == 1);
    CHECK_THAT(answer.error, contains("GiB of memory") && contains("are available") && contains("teacher's weights") &&
                                 contains("--scale tiny"));
    CHECK_FALSE(kdlib::path_exists(folder / "out"));
  }
}

TEST_CASE(
    "the tiny scale goes the whole way: random models, training, files that are read back, and a rerun that finds it "
    "done",
    "[programs][big]") {
  for (const char* program : programs) {
    CAPTURE(program);
    const bool lora = program == programs[0];
    const TemporaryDirectory folder;
    const std::string out = folder / "out", arguments =
                                                "--scale tiny --random-weights --steps 4 --batch 4 --max-new-tokens 12 "
                                                "--warmup 1 --evaluate-every 2 --threads 1 --out " +
                                                out;
    const ProgramAnswer answer = run_program(program, arguments);
    CAPTURE(answer.error);
    REQUIRE(answer.status == 0);
    CHECK_THAT(answer.error, contains("read back") && contains("differ by at most 0 of"));
    CHECK_THAT(answer.out, contains("distilled"));
    for (const char* name : {"config.yaml", "metrics.jsonl", "result.json", "report.html", "checkpoints/4/state.json",
                             "random/teacher/config.json", "random/student/config.json"})
      CHECK(kdlib::path_exists(out + "/" + name));
    CHECK(kdlib::read_file(out + "/random/teacher/kdlib_random_weights.json") == "{\"seed\": 1}\n");
    CHECK_FALSE(kdlib::path_exists(out + "/random/teacher/model.safetensors"));
    CHECK_THAT(run_program("inspect", "--check " + out + "/random/student").out, contains("numbers of seed 2"));
    CHECK(kdlib::path_exists(out + (lora ? "/adapter/adapter_model.safetensors" : "/model/model.safetensors")));
    const std::string metrics = kdlib::read_file(out + "/metrics.jsonl");
    CHECK((metrics.find("\"experts/entropy\"") != std::string::npos) == !lora);
    const kdlib::Json models = kdlib::Json::parse_file(out + "/result.json").at("models");
    CHECK(models[2].at("forward_kl").as_double() != models[1].at("forward_kl").as_double());
    const ProgramAnswer again = run_program(program, arguments);
    CHECK(again.status == 0);
    CHECK_THAT(again.error, contains("finished"));
    const ProgramAnswer seed = run_program(program, arguments + " --seed 9");
    CHECK(seed.status == 2);
    CHECK_THAT(seed.error, contains("another scale or seed"));
    // the student is a model like any other
    const std::string base = lora ? out + "/random/student --adapter " + out + "/adapter" : out + "/model";
    kdlib::write_file_atomically(folder / "in.jsonl", "{\"ids\":[17,18,19,20]}\n");
    CHECK(run_program("score",
                      "--model " + base + " --input " + (folder / "in.jsonl") + " --out " + (folder / "scores.jsonl"))
              .status == 0);
  }
}

TEST_CASE("combinations and directories that do not belong to such a program are refused by name", "[programs][big]") {
  const std::string llama = reference_file("models/llama"), qwen2 = reference_file("models/qwen2");
  CHECK(run_program(programs[0], "").status == 2);
  CHECK_THAT(run_program(programs[0], "").error, contains("--teacher DIR (Qwen2.5-32B)") && contains("--dry-run"));
  CHECK(run_program(programs[0], "--random-weights --teacher " + qwen2).status == 2);
  CHECK_THAT(run_program(programs[0], "--dry-run --teacher " + llama).error,
             contains("models/llama/config.json: model_type is llama; Qwen2.5-32B has qwen2"));
  CHECK_THAT(run_program(programs[0], "--dry-run --student " + qwen2).error,
             contains("config.json: vocab_size is") && contains("Qwen2.5-7B has 152064"));
  CHECK_THAT(run_program("vpmoe_student", "--scale tiny --random-weights --lambda 0").error,
             contains("--replay-routing"));
  CHECK_THAT(run_program("vpmoe_student", "--scale tiny --random-weights --device H100").error,
             contains("--device H100 is for --dry-run alone"));
}
