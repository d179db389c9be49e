// SPDX-License-Identifier: Apache-2.0
// The program `evaluate` on a tiny model: every number against lm-evaluation-harness on the same files
// (tests/reference/eval), and its errors.
#include <cmath>
#include <map>

#include "kdlib/io/json.hpp"
#include "kdlib/io/jsonl.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"
#include "support/tolerance.hpp"

namespace {
using kdlib::Json;
using kdlib_tests::contains;
using kdlib_tests::near;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;
using kdlib_tests::Tolerance;

std::string model() { return reference_file("eval/model"); }
std::string data() { return reference_file("eval/data"); }

/// Runs the tasks and compares with one part of expected.json.
void compare(const std::string& part, const std::string& more) {
  const Json expected = Json::parse_file(reference_file("eval/expected.json")).at(part);
  const TemporaryDirectory dir;
  std::string tasks;
  for (const auto& task : expected.members()) tasks += " " + std::string(task.key);
  const ProgramAnswer answer =
      run_program("evaluate", "--models " + model() + " --data " + data() + " --tasks" + tasks + " --json " +
                                  (dir / "e.json") + " --items " + (dir / "i.jsonl") + " " + more);
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  const Json got = Json::parse_file(dir / "e.json").at("models")[0].at("tasks");
  std::map<std::string, std::vector<Json>> items;
  for (kdlib::JsonlReader lines(dir / "i.jsonl"); const auto line = lines.next();)
    items[std::string(line->at("task").as_string())].push_back(*line);
  for (const auto& task : expected.members()) {
    const std::string name(task.key);
    const Json numbers = got.at(name);
    for (const auto& number : task.value.members()) {
      if (!number.value.is_number()) continue;
      INFO(name << " " << number.key);
      CHECK(near(numbers.at(number.key).as_double(), number.value.as_double(), Tolerance<float>::loss));
    }
    const Json values = task.value.at("log_likelihoods");
    if (values[0].is_number()) {
      double sum = 0;
      for (const Json& value : values) sum += value.as_double();
      CHECK(near(numbers.at("log_likelihood").as_double(), sum, Tolerance<float>::loss));  // relative
      continue;
    }
    REQUIRE(items[name].size() == values.size());
    for (std::size_t d = 0; d < values.size(); ++d) {
      INFO(name << " document " << d);
      const Json& item = items[name][d];
      REQUIRE(item.at("log_likelihoods").size() == values[d].size());
      for (std::size_t c = 0; c < values[d].size(); ++c)
        CHECK(near(item.at("log_likelihoods")[c].as_double(), values[d][c].as_double(), Tolerance<float>::loss));
      for (const auto& score : task.value.at("documents")[d].members())
        CHECK(item.at(score.key).as_bool() == (score.value.as_double() == 1));
    }
  }
}

}  // namespace

TEST_CASE("scores and log-likelihoods equal the harness's without examples", "[programs]") { compare("zero_shot", ""); }
TEST_CASE("scores do not depend on what is run together", "[programs]") {
  compare("zero_shot", "--batch 1 --threads 1");
}
TEST_CASE("scores with solved examples equal the harness's", "[programs]") { compare("two_shots", "--shots 2"); }
TEST_CASE("scores with a first token in every text equal the harness's", "[programs]") { compare("bos", "--bos on"); }

TEST_CASE("several models and adapters stand in one table, compared with a reference", "[programs]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(
      dir / "held_out.jsonl",
      "{\"ids\": [1, 10, 40, 7, 9, 200, 11]}\n{\"ids\": [1, 11, 43, 8], \"loss_mask\": [0, 0, 1, 1]}\n");
  kdlib::write_file_atomically(dir / "perplexity.jsonl", "{\"ids\": [10, 40, 7, 9]}\n");
  const std::string llama = reference_file("models/llama"), adapter = reference_file("peft/llama_all_linear");
  const ProgramAnswer answer =
      run_program("evaluate", "--models " + llama + " --adapters none " + adapter +
                                  " --names plain adapted --reference " + llama + " --data " + dir.path() +
                                  " --tasks kl agreement calibration perplexity --json " + (dir / "e.json"));
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  CHECK(answer.out.find("plain") < answer.out.find("adapted"));
  CHECK(answer.out.find("perplexity byte_perplexity") != std::string::npos);
  const Json models = Json::parse_file(dir / "e.json").at("models");
  REQUIRE(models.size() == 2);
  CHECK(near(models[0].at("tasks").at("kl").at("forward").as_double(), 0, Tolerance<float>::loss));
  CHECK(models[0].at("tasks").at("agreement").at("top1").as_double() == 1);
  CHECK(models[1].at("tasks").at("kl").at("forward").as_double() > 1e-4);
  CHECK(models[1].at("tasks").at("kl").at("tokens").as_double() == 8);
  CHECK(models[0].at("tasks").at("perplexity").at("byte_perplexity").is_null());  // ids have no bytes
  CHECK(models[0].at("tasks").at("perplexity").at("token_perplexity").as_double() > 1);
  // The error of bins is at least that of all tokens together.
  const Json calibration = models[0].at("tasks").at("calibration");
  const double confidence = calibration.at("confidence").as_double(), accuracy = calibration.at("accuracy").as_double();
  CHECK(calibration.at("error").as_double() >= std::fabs(confidence - accuracy) - 1e-12);
  CHECK(calibration.at("error").as_double() <= 1);
  CHECK(confidence > 1.0 / 64);
  CHECK(confidence <= 1);
  CHECK(std::round(accuracy * 8) == accuracy * 8);  // of eight tokens
}

TEST_CASE("evaluate in bfloat16: a model against itself is exactly 0, and perplexity is near float32's", "[programs]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "held_out.jsonl", "{\"ids\":[5,9,33,2,7,8]}\n");
  kdlib::write_file_atomically(dir / "perplexity.jsonl", "{\"ids\":[5,9,33,2,7,8,11,3,60,1]}\n");
  const std::string llama = reference_file("models/llama");
  const auto measured = [&](const std::string& dtype) {
    const ProgramAnswer answer =
        run_program("evaluate", "--models " + llama + " --reference " + llama + " --data " + dir.path() +
                                    " --tasks kl perplexity --json " + (dir / "e.json") + " --dtype " + dtype);
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    return Json::parse_file(dir / "e.json").at("models")[0].at("tasks");
  };
  const Json exact = measured("float32"), half = measured("bfloat16");
  CHECK(half.at("kl").at("forward").as_double() == 0);
  const double wide = exact.at("perplexity").at("log_likelihood").as_double(),
               narrow = half.at("perplexity").at("log_likelihood").as_double();
  CHECK(narrow != wide);
  CHECK(std::fabs(narrow - wide) < 0.01 * std::fabs(wide));
}

TEST_CASE("held-out text longer than the context follows --too-long", "[programs]") {
  const TemporaryDirectory dir;
  kdlib::write_file_atomically(dir / "held_out.jsonl", "{\"ids\":[5,9,33,2,7,8]}\n{\"ids\":[5,9,33]}\n");
  const std::string command = "--models " + reference_file("models/llama") + " --data " + dir.path() +
                              " --tasks calibration --context 4 --json " + (dir / "e.json");
  const ProgramAnswer refused = run_program("evaluate", command);
  CHECK(refused.status == 1);
  CHECK_THAT(refused.error, contains("held_out.jsonl:1") && contains("6") && contains("4"));
  const auto counted = [&](const char* rule) {
    const ProgramAnswer answer = run_program("evaluate", command + " --too-long " + rule);
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    CHECK_THAT(answer.error, contains("longer than 4 tokens"));
    return Json::parse_file(dir / "e.json").at("models")[0].at("tasks").at("calibration").at("tokens").as_double();
  };
  CHECK(counted("cut") == 3 + 2);
  CHECK(counted("drop") == 2);
}

TEST_CASE("--limit takes the first documents of a task and of each subject", "[programs]") {
  const TemporaryDirectory dir;
  const ProgramAnswer answer =
      run_program("evaluate", "--models " + model() + " --data " + data() +
                                  " --tasks arc_easy mmlu perplexity --limit 2 --json " + (dir / "e.json"));
  REQUIRE(answer.status == 0);
  const Json tasks = Json::parse_file(dir / "e.json").at("models")[0].at("tasks");
  CHECK(tasks.at("arc_easy").at("documents").as_double() == 2);
  CHECK(tasks.at("mmlu").at("documents").as_double() == 6);  // three subjects
  CHECK(tasks.at("perplexity").at("documents").as_double() == 2);
}

TEST_CASE("evaluate finds every model, adapter and file before it measures the first", "[programs]") {
  const TemporaryDirectory dir;
  kdlib::make_directories(dir / "run");
  kdlib::write_file_atomically(dir / "run/config.yaml", "quantize: none\n");
  const std::string front = "--data " + data() + " --tasks perplexity --models " + model() + " ";
  const auto refuses = [](const std::string& arguments, const std::string& part) {
    const ProgramAnswer answer = run_program("evaluate", arguments);
    INFO(answer.error);
    CHECK(answer.status == 1);
    CHECK_THAT(answer.error, contains(part));
    CHECK(answer.error.find("model 1 of") == std::string::npos);  // nothing was measured
  };
  refuses(front + (dir / "run"), "is not finished");
  refuses(front + (dir / "none"), "none is not there: give a Hugging Face directory or a GGUF file");
  refuses(front + "--adapters none " + (dir / "adapter"), "the adapter " + (dir / "adapter") + " is not there");
  const std::string one = "--models " + model() + " --tasks ";
  refuses(one + "perplexity kl --reference " + (dir / "none") + " --data " + data(), "none is not there");
  refuses(one + "perplexity mmlu --data " + (dir / "run"), "perplexity.jsonl is not there: --tasks perplexity");
}

TEST_CASE("evaluate refuses what it cannot measure", "[programs]") {
  const auto refuses = [](const std::string& arguments, int status, const std::string& part) {
    const ProgramAnswer answer = run_program("evaluate", arguments);
    INFO(answer.error);
    CHECK(answer.status == status);
    CHECK(answer.error.find(part) != std::string::npos);
    CHECK(answer.out.empty());
  };
  const std::string front = "--models " + model() + " --data " + data() + " ";
  refuses(front + "--tasks piqa", 2, "no task piqa");
  refuses(front + "--tasks kl", 2, "needs --reference");
  refuses(front + "--tasks mmlu --adapters a b --models y z", 2, "--adapters: 2 for 3 models");
  refuses(front + "--tasks mmlu --names a b", 2, "--names: 2 for 1 columns");
  refuses(front + "--tasks mmlu --models b --names a a", 2, "--names has a twice");
  refuses(front + "--tasks mmlu --models " + model(), 2, "--models has " + model() + " twice");
  refuses(front + "--tasks mmlu mmlu", 2, "--tasks has mmlu twice");
  refuses(front + "--tasks arc_challenge --shots 1", 1, "arc_challenge.fewshot.jsonl is not there");
  refuses(front + "--tasks mmlu --shots 3", 1, "--shots asks for 3");
  refuses(front + "--tasks calibration", 1, "held_out.jsonl");
  refuses("--models " + model() + " --data " + data() + " --tasks perplexity calibration", 1,
          "held_out.jsonl is not there: --tasks calibration");
  refuses("--models " + reference_file("models/llama") + " --data " + data() + " --tasks mmlu", 1, "has no tokenizer");
}
