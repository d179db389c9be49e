// SPDX-License-Identifier: Apache-2.0
// Students as users have them: fine-tuned without a teacher, then distilled from their own adapter.
#include <cmath>
#include <string>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/jsonl.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"
#include "support/shared.hpp"

using kdlib::Json;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

namespace {

/// `count` texts of `length` ids that follow one rule, so that a model can learn them.
std::string texts(int count, int length) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    out += "{\"ids\": [";
    for (int j = 0; j < length; ++j) out += kdlib::concat(j == 0 ? "" : ", ", 3 + (7 * j + i) % 40);
    out += "]}\n";
  }
  return out;
}

std::string prompts(int first, int count) {
  std::string out;
  for (int i = first; i < first + count; ++i)
    out += kdlib::concat("{\"prompt_ids\": [1, ", 10 + i, ", ", 40 + i, "]}\n");
  return out;
}

Json result(const std::string& folder) { return Json::parse_file(folder + "/result.json"); }

}  // namespace

TEST_CASE("A student is fine-tuned without a teacher, then distilled from the adapter that came of it", "[programs]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "text.jsonl", texts(40, 16));
  kdlib::write_file_atomically(dir / "prompts.jsonl", prompts(0, 8));
  kdlib::write_file_atomically(dir / "held_out.jsonl", prompts(50, 3));
  const std::string model = reference_file("models/llama"), tuned = dir / "tuned", out = dir / "out";

  const ProgramAnswer first = run_program(
      "distil", "--student " + model + " --loss cross_entropy --data " + (dir / "text.jsonl") +
                    " --validation-share 0.2 --steps 12 --batch 8 --learning-rate 0.01 --lora-rank 4 --out " + tuned +
                    " --evaluate-every 4 --save best");
  INFO(first.error);
  REQUIRE(first.status == 0);
  CHECK(first.out.find("forward KL") == std::string::npos);
  const Json models = result(tuned).at("models");
  REQUIRE(models.size() == 2);  // no teacher's row
  const double before = models[0].at("perplexity").as_double(), after = models[1].at("perplexity").as_double();
  CHECK(after < 0.8 * before);
  CHECK(models[0].at("forward_kl").is_null());
  // The objective is the cross-entropy, whose exponential is the perplexity.
  CHECK(std::fabs(std::exp(models[1].at("objective").as_double()) - after) < 1e-3 * after);

  const std::string settings = " --prompts " + (dir / "prompts.jsonl") + " --validation " + (dir / "held_out.jsonl") +
                               " --steps 3 --batch 4 --samples 2 --max-new-tokens 8 "
                               "--loss \"0.8 reverse_kl(temperature=2) + 0.2 cross_entropy\" --out ";
  const ProgramAnswer second = run_program("distil", "--teacher " + model + " --student " + model +
                                                         " --student-adapter " + tuned + "/adapter" + settings + out);
  INFO(second.error);
  REQUIRE(second.status == 0);
  CHECK(second.out.find("objective") != std::string::npos);
  // It starts as the tuned student, not as the model: far from the teacher before the first step.
  CHECK(result(out).at("models")[1].at("forward_kl").as_double() > 0.05);
  CHECK(result(out).at("objective").as_string().find("0.8 reverse_kl(temperature=2") == 0);
  CHECK(Json::parse_file(out + "/adapter/adapter_config.json").at("r").as_int() == 4);
  CHECK_FALSE(kdlib::path_exists(out + "/base"));  // a student with a name of its own is not rounded unasked

  // The folder of the first run is its model with its adapter, for distil as for inspect.
  const ProgramAnswer third =
      run_program("distil", "--teacher " + model + " --student " + tuned + settings + out + "2");
  INFO(third.error);
  REQUIRE(third.status == 0);
  CHECK(kdlib::read_file(out + "2/adapter/adapter_model.safetensors") ==
        kdlib::read_file(out + "/adapter/adapter_model.safetensors"));
  CHECK_THAT(run_program("inspect", tuned).out, contains(tuned + "/adapter"));
}

TEST_CASE(
    "The folder of a run with rounded weights is no teacher, a changed one no model, and a file's int4 is asked for",
    "[programs]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "prompts.jsonl", prompts(0, 8));
  kdlib::write_file_atomically(dir / "held_out.jsonl", prompts(50, 3));
  const std::string model = reference_file("models/llama"), other = reference_file("models/qwen2"), out = dir / "out";
  const std::string settings = " --prompts " + (dir / "prompts.jsonl") + " --validation " + (dir / "held_out.jsonl") +
                               " --steps 2 --batch 4 --max-new-tokens 8 --out ";
  // Rounded weights with an adapter are a student, and no teacher; a changed file is not the run's.
  const ProgramAnswer rounded = run_program("distil", "--teacher " + model + settings + out + "3 --group-size 32");
  INFO(rounded.error);
  REQUIRE(rounded.status == 0);
  // It is a reference: its own divergence from it is 0, the original's is what rounding and adapter left.
  kdlib::make_directories(dir / "task");
  kdlib::write_file_atomically(dir / "task/held_out.jsonl",
                               "{\"ids\": [1, 10, 40, 7, 9, 200, 11]}\n{\"ids\": [1, 11, 43, 8]}\n");
  const ProgramAnswer compared =
      run_program("evaluate", "--models " + out + "3 " + model + " --names run original --reference " + out +
                                  "3 --tasks kl --data " + (dir / "task") + " --json " + (dir / "kl.json"));
  INFO(compared.error);
  REQUIRE(compared.status == 0);
  const auto forward_kl = [&dir](std::size_t i) {
    const Json models = Json::parse_file(dir / "kl.json").at("models");
    return models[i].at("tasks").at("kl").at("forward").as_double();
  };
  CHECK(std::fabs(forward_kl(0)) < 1e-9);
  CHECK(forward_kl(1) > 1e-4);
  const ProgramAnswer refused =
      run_program("distil", "--teacher " + out + "3 --student " + model + settings + out + "4");
  CHECK(refused.status == 2);
  CHECK_THAT(refused.error, contains("convert --model " + out + "3 --merge"));
  std::string bytes = kdlib::read_file(out + "3/adapter/adapter_model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  kdlib::write_file_atomically(out + "3/adapter/adapter_model.safetensors", bytes);
  const ProgramAnswer changed = run_program("generate", "--model " + out + "3 --prompt a");
  CHECK(changed.status == 1);
  CHECK_THAT(changed.error, contains("adapter_model.safetensors has other bytes than the run wrote"));

  // A file's int4 is asked for, though it is what a copy of the teacher has by itself.
  kdlib::write_file_atomically(dir / "int4.yaml", "quantize: int4\ngroup-size: 32\n");
  const ProgramAnswer from_file = run_program("distil", "--config " + (dir / "int4.yaml") + " --teacher " + other +
                                                            " --student " + model + settings + out + "5");
  INFO(from_file.error);
  REQUIRE(from_file.status == 0);
  CHECK(kdlib::path_exists(out + "5/base"));
}

TEST_CASE("Without a teacher, what needs one is refused by name", "[programs]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "text.jsonl", texts(8, 8));
  const std::string start = "--student " + reference_file("models/llama") + " --out " + (dir / "out");
  const auto said = [&](const std::string& more) {
    const ProgramAnswer answer = run_program("distil", start + more);
    CHECK(answer.status != 0);
    CHECK_FALSE(kdlib::path_exists(dir / "out"));
    return answer.error;
  };
  const std::string data = " --data " + (dir / "text.jsonl");
  CHECK_THAT(said(data), contains("not forward_kl"));
  CHECK_THAT(said(" --loss cross_entropy"), contains("--data FILE is needed"));
  CHECK_THAT(said(data + " --loss cross_entropy --lambda 0.5"), contains("--lambda must be 0"));
  CHECK_THAT(said(data + " --loss cross_entropy --validation-share 1"), contains("--validation-share"));
}

TEST_CASE("Given text beyond the model's context is refused, cut or dropped, and never trained on silently",
          "[programs]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "text.jsonl", texts(4, 300) + texts(6, 20));  // the context holds 256
  kdlib::write_file_atomically(dir / "held_out.jsonl", texts(2, 20));
  const std::string start = "--student " + reference_file("models/llama") + " --loss cross_entropy --steps 1 --data " +
                            (dir / "text.jsonl") + " --validation " + (dir / "held_out.jsonl") + " --out ";
  const auto tokens = [](const std::string& folder) {
    double sum = 0;
    for (kdlib::JsonlReader lines(folder + "/metrics.jsonl"); const std::optional<Json> line = lines.next();)
      if (const auto value = line->find_set("train/tokens")) sum += value->as_double();
    return sum;
  };
  const ProgramAnswer refused = run_program("distil", start + (dir / "a") + " --batch 10");
  CHECK(refused.status == 1);
  CHECK_THAT(refused.error, contains("text.jsonl:1") && contains("300 tokens") && contains("256"));
  const ProgramAnswer cut = run_program("distil", start + (dir / "b") + " --too-long cut --batch 10");
  CHECK(cut.status == 0);
  CHECK_THAT(cut.error, contains("4 cut"));
  CHECK(tokens(dir / "b") == 4 * 255 + 6 * 19);
  const ProgramAnswer dropped = run_program("distil", start + (dir / "c") + " --too-long drop --batch 6");
  CHECK(dropped.status == 0);
  CHECK_THAT(dropped.error, contains("4 left out"));
  CHECK(tokens(dir / "c") == 6 * 19);
}

TEST_CASE("A plan is answered as one JSON object", "[programs]") {
  const ProgramAnswer answer = run_program("vpmoe_student", "--dry-run --json --device H200");
  REQUIRE(answer.status == 0);
  const Json plan = Json::parse(answer.out, "plan");
  CHECK(plan.at("memory_bytes").at("total").as_double() > 1e9);
  CHECK(plan.at("machine").at("name").as_string() == "H200");
}

TEST_CASE("--save best exports the best state where training made the student worse", "[programs][distil]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "prompts.jsonl", prompts(0, 8));
  kdlib::write_file_atomically(dir / "held_out.jsonl", prompts(50, 3));
  const std::string model = reference_file("models/llama");
  const auto run = [&](const std::string& out, const std::string& save) {
    const ProgramAnswer answer = run_program(
        "distil", "--teacher " + model + " --prompts " + (dir / "prompts.jsonl") + " --validation " +
                      (dir / "held_out.jsonl") +
                      " --steps 4 --batch 4 --max-new-tokens 8 --lora-rank 4 --learning-rate 1 --evaluate-every 2 " +
                      save + " --out " + out);
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    const bool worse = answer.out.find("training made it worse") != std::string::npos ||
                       answer.out.find("became worse") != std::string::npos;
    CHECK(worse == (save == "--save last"));
    return result(out);
  };
  CHECK(run(dir / "best", "--save best").at("best_step").as_int() == 0);
  run(dir / "last", "--save last");
  // What is exported is measured: the best state is the adapter's start, the last one is far from it.
  const Json best = result(dir / "best").at("models"), last = result(dir / "last").at("models");
  const double start = best[2].at("forward_kl").as_double();
  CHECK(best[2].at("model").as_string() == "compensated");
  CHECK(std::fabs(best[3].at("forward_kl").as_double() - start) < 1e-6);
  CHECK(last[3].at("forward_kl").as_double() > 2 * start);
}
