// SPDX-License-Identifier: Apache-2.0
// The program `compress` as a user runs it: the plan, pieces that are kept, training of the result, plain experts
// again, wrong usage.
#include "kdlib/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

namespace {

struct Job {
  TemporaryDirectory dir;

  Job() {
    std::string data;
    for (int i = 0; i < 8; ++i)
      data += concat("{\"ids\": [1, ", 10 + i, ", ", 40 + 3 * i, ", ", 7 + i, ", ", 60 + i, "]}\n");
    write_file_atomically(dir / "data.jsonl", data);
  }
  ProgramAnswer compress(const std::string& more) const {
    return run_program("compress", "--model " + reference_file("models/qwen3_moe") + " --out " + (dir / "out") +
                                       " --threads 1 " + more);
  }
};

/// Runs a program that must succeed.
ProgramAnswer good(const std::string& program, const std::string& arguments) {
  const ProgramAnswer answer = run_program(program, arguments);
  INFO(program << ": " << answer.error);
  REQUIRE(answer.status == 0);
  return answer;
}

}  // namespace

TEST_CASE("compress makes a model that distil trains and convert makes plain", "[programs][compress]") {
  const Job job;
  const std::string settings = "--rank 4 --rounds 2 --calibration " + (job.dir / "data.jsonl");
  const ProgramAnswer plan = job.compress(settings + " --dry-run");
  CHECK(plan.status == 0);
  CHECK_THAT(plan.out, contains("wrappers of rank 4 keep 45.0 % of the experts") && contains("the search takes about"));
  CHECK_FALSE(path_exists(job.dir / "out"));
  const ProgramAnswer part = job.compress(settings + " --layers 2");
  CHECK(part.status == 0);
  CHECK_THAT(part.out, contains("3 maps made now, 0 there before; 3 are missing"));
  const ProgramAnswer whole = job.compress(settings);
  INFO(whole.error);
  REQUIRE(whole.status == 0);
  CHECK_THAT(whole.out, contains("layer 2 down: J 0.") && contains("layer 0: output error 0.") &&
                            contains("3 maps made now, 3 there before;") && contains("out is complete"));
  CHECK_THAT(job.compress(settings).out, contains("0 maps made now, 6 there before"));
  CHECK_THAT(good("inspect", (job.dir / "out") + " --tensors").out, contains("gate_shared_core.core"));

  write_file_atomically(job.dir / "stages.yaml",
                        "stages:\n"
                        "  - {name: factors, steps: 2, learning_rate: 1e-3,\n"
                        "     groups: [{pattern: wrapper, rate: 1}, {pattern: '.*', rate: 0}]}\n"
                        "  - {name: all, steps: 1, learning_rate: 1e-4}\n");
  good("distil", "--teacher " + reference_file("models/qwen3_moe") + " --student " + (job.dir / "out") +
                     " --quantize none --train all --data " + (job.dir / "data.jsonl") + " --validation " +
                     (job.dir / "data.jsonl") + " --stages " + (job.dir / "stages.yaml") + " --out " +
                     (job.dir / "run") + " --batch 2 --threads 1");
  const SafetensorsDirectory before(job.dir / "out"), after(job.dir / "run/model");
  const auto changed = [&](const std::string& name) {
    return read_as<float>(before.at(name)) != read_as<float>(after.at(name));
  };
  CHECK(changed("model.layers.2.mlp.experts.up_shared_core.experts.3.output_wrapper.V"));
  CHECK(changed("model.layers.0.mlp.experts.down_shared_core.core"));
  good("convert", "--model " + (job.dir / "run/model") + " --materialise --to hf --out " + (job.dir / "plain"));
  const SafetensorsDirectory plain(job.dir / "plain");
  CHECK(plain.at("model.layers.2.mlp.experts.7.down_proj.weight").shape() == Shape{64, 40});
  CHECK(plain.tensors().size() == SafetensorsDirectory(reference_file("models/qwen3_moe")).tensors().size());
  good("convert", "--model " + (job.dir / "out") + " --materialise --to gguf --type f32 --out " + (job.dir / "p.gguf"));
  CHECK_THAT(run_program("convert", "--model " + (job.dir / "out") + " --to gguf --out " + (job.dir / "q.gguf")).error,
             contains("[save_gguf] experts that share cores") && contains("convert --materialise"));
}

TEST_CASE("compress and convert --materialise refuse what does not fit", "[programs][compress]") {
  const Job job;
  const auto refused = [&](const std::string& more) {
    const ProgramAnswer answer = job.compress(more);
    CHECK(answer.status == 2);
    return answer.error;
  };
  CHECK_THAT(refused(""), contains("give --rank R or --share X"));
  CHECK_THAT(refused("--rank 4 --share 0.5"), contains("give --rank R or --share X, not both"));
  CHECK_THAT(refused("--rank 4 --init seed --rounds 3"), contains("--rounds") && contains("belongs to --init als"));
  CHECK_THAT(refused("--rank 4 --adam-steps 3"), contains("belongs to --init seed"));
  CHECK_THAT(refused("--rank 4 --batch 3"), contains("belongs to --calibration"));
  CHECK_THAT(refused("--rank 4 --layers x-y"), contains("--layers is \"x-y\"; it is A-B"));
  CHECK_THAT(refused("--rank 4 --dtype float64"), contains("--dtype: dtype float64 is not supported"));
  const auto failed = [&](const std::string& more) {
    const ProgramAnswer answer = job.compress(more);
    CHECK(answer.status == 1);
    return answer.error;
  };
  CHECK_THAT(failed("--rank 41"), contains("rank is 41; experts [40, 64] allow 1 to 40"));
  CHECK_THAT(failed("--rank 4 --calibration " + (job.dir / "none.jsonl")), contains("none.jsonl"));
  CHECK_THAT(run_program("compress", "--model " + (job.dir / "nowhere") + " --rank 2 --out " + (job.dir / "o")).error,
             contains("nowhere is not there"));
  CHECK_THAT(run_program("convert", "--model " + reference_file("models/qwen3_moe") + " --materialise --to hf --out " +
                                        (job.dir / "o"))
                 .error,
             contains("has no experts that share cores"));
}

TEST_CASE("convert --upcycle makes a mixture of the same function that compress reads", "[programs][compress]") {
  const Job job;
  const std::string dense = reference_file("models/llama"), mixture = job.dir / "mixture";
  const ProgramAnswer made =
      good("convert", "--model " + dense + " --upcycle 4 --active 2 --to hf --out " + mixture + " --threads 1");
  CHECK_THAT(made.out, contains("written"));
  CHECK_THAT(good("inspect", mixture).out, contains("qwen2_moe"));
  write_file_atomically(job.dir / "held_out.jsonl", read_file(job.dir / "data.jsonl"));
  CHECK_THAT(good("evaluate", "--models " + mixture + " --reference " + dense + " --tasks kl --data " + (job.dir / "") +
                                  " --json " + (job.dir / "e.json"))
                 .out,
             contains("0.0000"));
  good("compress", "--model " + mixture + " --out " + (job.dir / "small") + " --rank 2 --rounds 1 --threads 1");
  const auto refused = [&](const std::string& more) {
    return run_program("convert", "--model " + dense + " --to hf --out " + (job.dir / "no") + " " + more).error;
  };
  CHECK_THAT(refused("--active 2"), contains("--active") && contains("--upcycle E makes the experts"));
  CHECK_THAT(refused("--upcycle 2 --active 3"), contains("active"));
  CHECK_THAT(refused("--upcycle 2 --quantize int4"), contains("--upcycle is alone"));
}
