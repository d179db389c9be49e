// SPDX-License-Identifier: Apache-2.0
// A finished run of `distil`: what is missing of it or damaged is noticed, what is not its own is left alone, and what
// killed processes left is cleared.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"
#include "support/shared.hpp"

namespace {
using kdlib_tests::contains;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

/// A folder with text and the command line of a run of two steps.
struct Job {
  TemporaryDirectory dir;
  std::string arguments;

  explicit Job(const std::string& more = "") {
    std::string prompts, held_out;
    for (int i = 0; i < 6; ++i) {
      prompts += kdlib::concat("{\"prompt_ids\": [1, ", 10 + i, ", 40, 7]}\n");
      held_out += kdlib::concat("{\"prompt_ids\": [1, ", 90 + i, ", 33]}\n");
    }
    kdlib::write_file_atomically(dir / "prompts.jsonl", prompts);
    kdlib::write_file_atomically(dir / "validation.jsonl", held_out);
    arguments = "--teacher " + reference_file("models/llama") + " --prompts " + (dir / "prompts.jsonl") +
                " --validation " + (dir / "validation.jsonl") +
                " --steps 2 --batch 2 --max-new-tokens 5 --group-size 32 --threads 1 --out " + out() + " " + more;
  }
  std::string out() const { return dir / "out"; }
  ProgramAnswer run(const std::string& more = "") const { return run_program("distil", arguments + " " + more); }
  std::map<std::string, std::string> files(const char* part) const {
    return kdlib_tests::run_files(out() + "/" + part);
  }
  void put(const std::string& name, const std::string& text = "mine") const {
    kdlib::make_directories(kdlib::parent_path(out() + "/" + name));
    kdlib::write_file_atomically(out() + "/" + name, text);
  }
  bool still(const std::string& name, const std::string& text = "mine") const {
    return kdlib::path_exists(out() + "/" + name) && kdlib::read_file(out() + "/" + name) == text;
  }
};

}  // namespace

TEST_CASE("a finished run writes again from its checkpoint what is missing, and tells what has other bytes",
          "[programs][distil]") {
  const Job job("--export gguf");
  const ProgramAnswer first = job.run();
  INFO(first.error);
  REQUIRE(first.status == 0);
  const auto adapter = job.files("adapter"), base = job.files("base");
  const std::string gguf = kdlib::read_file(job.out() + "/model.gguf");
  CHECK_THAT(job.run().error, contains("this run is finished"));
  for (const char* name : {"adapter", "base", "model.gguf", "adapter/adapter_model.safetensors", "base/config.json"}) {
    CAPTURE(name);
    kdlib::remove_tree(job.out() + "/" + name);
    const ProgramAnswer again = job.run();
    INFO(again.error);
    CHECK(again.status == 0);
    CHECK(again.out == first.out);
    CHECK_THAT(again.error, contains(std::string("out/") + name) && contains("is missing: it is written again from"));
    CHECK(kdlib_tests::differences(job.files("adapter"), adapter) == "");
    CHECK(kdlib_tests::differences(job.files("base"), base) == "");
    CHECK(kdlib::read_file(job.out() + "/model.gguf") == gguf);
  }
  const std::string weights = job.out() + "/adapter/adapter_model.safetensors";
  std::string bytes = kdlib::read_file(weights);
  bytes[bytes.size() - 3] = static_cast<char>(bytes[bytes.size() - 3] ^ 8);
  kdlib::write_file_atomically(weights, bytes);
  const ProgramAnswer told = job.run();
  CHECK(told.status == 1);
  CHECK_THAT(told.error, contains(weights + " has other bytes than were written") && contains("move it away"));
  CHECK(kdlib::read_file(weights) == bytes);  // it may be somebody's work
  kdlib::rename_path(weights, job.dir / "mine");
  CHECK(job.run().status == 0);
  CHECK(kdlib_tests::differences(job.files("adapter"), adapter) == "");

  kdlib::remove_tree(job.out() + "/adapter");
  kdlib::remove_tree(job.out() + "/checkpoints");
  const ProgramAnswer lost = job.run();
  CHECK(lost.status == 1);
  CHECK_THAT(lost.error, contains("is missing, and so are the checkpoints") && contains("--resume no"));
}

TEST_CASE("--resume no removes what the run wrote and refuses where names of a run hold something else",
          "[programs][distil]") {
  const Job job;
  REQUIRE(job.run().status == 0);
  for (const char* name : {"model/weights.bin", "packed/codes", "adapter/notes.txt", "checkpoints/notes.txt",
                           "best/mine.safetensors", "text/poem.jsonl"}) {
    CAPTURE(name);
    job.put(name);
    CHECK(job.run().status == 0);  // finished: nothing is written
    const ProgramAnswer refused = job.run("--resume no");
    CHECK(refused.status == 2);
    const std::string text = name, top = text.substr(0, text.find('/'));
    CHECK_THAT(refused.error, contains(top == "model" || top == "packed" ? top : text) &&
                                  contains("which no run of distil wrote: not replaced or removed"));
    CHECK(job.still(name));
    CHECK(kdlib::path_exists(job.out() + "/result.json"));
    kdlib::remove_tree(job.out() + "/" + (top == "model" || top == "packed" ? top : text));
  }
  const ProgramAnswer over = job.run("--resume no --seed 7");
  INFO(over.error);
  CHECK(over.status == 0);
  CHECK_THAT(over.error, contains("removes what an earlier run left"));
}

TEST_CASE("a name that the end of a run needs is refused before the work where something else has it",
          "[programs][distil]") {
  const Job job("--train all --quantize none --lambda 0.5");
  std::string arguments = job.arguments;
  arguments.erase(arguments.find(" --group-size 32"), 16);
  job.put("model/weights.bin");
  const ProgramAnswer fresh = run_program("distil", arguments);
  CHECK(fresh.status == 2);
  CHECK_THAT(fresh.error, contains("holds model, which no run of distil wrote") && !contains("loading"));
  kdlib::remove_tree(job.out());
  REQUIRE(run_program("distil", arguments).status == 0);
  kdlib::remove_tree(job.out() + "/result.json");
  kdlib::write_file_atomically(
      job.out() + "/outputs.json",
      "{\"format\": \"kdlib run outputs 1\", \"written\": [\"outputs.json\", \"config.yaml\"], "
      "\"checksums\": {}}");
  const ProgramAnswer later = run_program("distil", arguments);
  CHECK(later.status == 2);
  CHECK_THAT(later.error, contains("model") && contains("which no run of distil wrote") && !contains("loading"));
}

TEST_CASE("temporary files that a killed process left are gone after the next run, finished or not",
          "[programs][distil]") {
  const Job job;
  REQUIRE(job.run().status == 0);
  for (const char* name : {"report.html.tmp-99999999-1", "outputs.json.tmp-99999999-2", "adapter/a.tmp-99999999-3",
                           "checkpoints/2/state.json.tmp-99999999-4", "notes.tmp-99999999-5"})
    job.put(name);
  CHECK_THAT(job.run().error, contains("this run is finished"));
  for (const char* name : {"report.html.tmp-99999999-1", "outputs.json.tmp-99999999-2", "adapter/a.tmp-99999999-3",
                           "checkpoints/2/state.json.tmp-99999999-4"}) {
    CAPTURE(name);
    CHECK_FALSE(kdlib::path_exists(job.out() + "/" + name));
  }
  CHECK(job.still("notes.tmp-99999999-5"));  // no name of a run's
}

TEST_CASE("usage and settings end with 2, what fails at work with 1, and nothing is begun before", "[programs]") {
  const Job job;
  const std::string folder = job.dir / "nothing";
  const auto status = [&](const std::string& more) {
    const ProgramAnswer answer = job.run(more);
    INFO(more << "\n" << answer.error);
    CHECK_FALSE(kdlib::path_exists(job.out()));
    return answer.status;
  };
  for (const char* usage :
       {"--no-such-option", "--lambda 2", "--warmup 3", "--warmup-ratio 1.5", "--loss \"0 forward_kl\"",
        "--loss \"-1 forward_kl\"", "--loss \"1e400 forward_kl\"", "--loss revers_kl",
        "--quantize nf4 --double-quant x", "--top-k 3 --lambda 1", "--samples 3", "--merge --train all",
        "--lora-init compensate --quantize none", "--teacher-cache-mb 3", "--device H100",
        "--train scales --quantize none", "--validation-share 0.5", "--max-length 5"}) {
    CAPTURE(usage);
    CHECK(status(usage) == 2);
  }
  for (const std::string work :
       {" --quantize int4 --student /no/such/model", " --quantize int4 --student-adapter /no/such/adapter"}) {
    CAPTURE(work);
    CHECK(status(work) == 1);
  }
}
