// SPDX-License-Identifier: Apache-2.0
// What `distil --quantize` leaves: base/ with adapter/, and packed/, give the trained student's logits bit for bit, and
// the other programs find them.
#include "support/sessions.hpp"

#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;
using Model = Decoder<Cpu, float>;

namespace {

std::vector<std::string> words(const std::string& line) {
  std::vector<std::string> list;
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    if (end > at) list.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return list;
}

/// A short run in this process, so that the student it trained can be asked.
struct Run {
  TemporaryDirectory dir;
  DistilCommand command;
  std::optional<Session<Cpu, float>> run;

  explicit Run(const std::string& more) {
    std::string prompts, validation;
    for (int i = 0; i < 8; ++i) {
      prompts += concat("{\"prompt_ids\": [1, ", 10 + i, ", 40, 7]}\n");
      validation += concat("{\"prompt_ids\": [1, ", 90 + i, ", 33]}\n");
    }
    write_file_atomically(dir / "prompts.jsonl", prompts);
    write_file_atomically(dir / "validation.jsonl", validation);
    const std::vector<std::string> list =
        words(concat("distil --teacher ", reference_file("models/llama"), " --prompts ", dir / "prompts.jsonl",
                     " --validation ", dir / "validation.jsonl", " --out ", out(),
                     " --steps 3 --batch 2 --max-new-tokens 6 --learning-rate 0.01 --threads 1 ", more));
    std::vector<const char*> arguments;
    for (const std::string& word : list) arguments.push_back(word.c_str());
    command.parse(static_cast<int>(arguments.size()), arguments.data());
    set_thread_count(command.threads());
    run.emplace(command.settings());
    const SessionOutcome outcome = run->run();
    REQUIRE(outcome.finished);
  }
  std::string out() const { return dir / "out"; }

  double difference(Model& back) {
    const TokenBatch& batch = run->held_out();
    const auto logits = [&batch](Model& m) {
      const Tensor<float, Cpu> hidden = m.forward(batch);
      return head_logits(m.head(), hidden.rows(0, hidden[0]));
    };
    const auto a = logits(*run->student()), b = logits(back);
    return kdlib_tests::max_difference(a.data(), b.data(), static_cast<std::size_t>(a.count()));
  }
};

}  // namespace

TEST_CASE("the base and the adapter of a quantised run are the student that was trained, bit for bit",
          "[programs][distil]") {
  for (const std::string& how : {std::string("--quantize nf4 --double-quant"), std::string("--quantize fp4"),
                                 std::string("--quantize int4 --group-size 32 --quantize-rule affine"),
                                 std::string("--quantize int4 --group-size 64"),
                                 std::string("--quantize int3 --group-size 32"), std::string("--quantize mxfp4")}) {
    CAPTURE(how);
    Run r(how + " --lora-rank 4");
    Model back = Model::from_pretrained(r.out() + "/base", {.trainable = false, .weights = WeightStorage::in_file});
    load_adapter(back, r.out() + "/adapter");
    CHECK(r.difference(back) == 0);
    CHECK(Json::parse_file(r.out() + "/adapter/adapter_config.json").at("base_model_name_or_path").as_string() ==
          r.out() + "/base");
    CHECK_THAT(std::string(
                   Json::parse_file(r.out() + "/result.json").at("facts").at("base/, the student's codes").as_string()),
               contains("in the form of"));
    remove_adapter(back);
    CHECK(r.difference(back) > 0);
  }
}

TEST_CASE("students trained through their codes are left packed, bit for bit", "[programs][distil]") {
  for (const std::string& how : {std::string("--train qat_lora --quantize nf4 --lora-rank 4"),
                                 std::string("--train all --quantize int4 --group-size 32 --quantize-rule affine"),
                                 std::string("--train scales --quantize int8 --group-size 32")}) {
    CAPTURE(how);
    Run r(how);
    Model packed = Model::from_pretrained(r.out() + "/packed", {.trainable = false}),
          values = Model::from_pretrained(r.out() + "/model", {.trainable = false});
    CHECK(r.difference(packed) == 0);
    CHECK(r.difference(values) < kdlib_tests::Tolerance<float>::model);
    CHECK(file_size(r.out() + "/packed/model.safetensors") < file_size(r.out() + "/model/model.safetensors"));
  }
}

TEST_CASE("--export gguf leaves one file with the trained student", "[programs][distil]") {
  for (const std::string& how : {std::string("--quantize int4 --group-size 64 --lora-rank 4"),
                                 std::string("--quantize none --lora-rank 4 --loss cross_entropy"),
                                 std::string("--train all --quantize none --loss cross_entropy"),
                                 std::string("--train scales --quantize int8 --group-size 32")}) {
    CAPTURE(how);
    Run r(how + " --export gguf");
    Model back = Model::from_pretrained(r.out() + "/model.gguf", {.trainable = false}),
          untrained = Model::from_pretrained(reference_file("models/llama"), {.trainable = false});
    CHECK(r.difference(back) < 0.25 * r.difference(untrained));  // F16 keeps 11 bits of each weight
  }
}

TEST_CASE("programs find model and adapter in the folder of a run", "[programs][distil]") {
  Run r("--quantize nf4 --lora-rank 4"), plain("--quantize none --lora-rank 4"),
      all("--quantize int4 --group-size 32 --train all");
  const auto score = [&](const std::string& arguments) {
    write_file_atomically(r.dir / "ids.jsonl", "{\"ids\": [1, 5, 9, 200, 41, 3]}\n");
    const ProgramAnswer answer = run_program(
        "score", arguments + " --threads 1 --input " + (r.dir / "ids.jsonl") + " --out " + (r.dir / "scores.jsonl"));
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    return read_file(r.dir / "scores.jsonl");
  };
  CHECK(score("--model " + r.out()) == score("--model " + r.out() + "/base --adapter " + r.out() + "/adapter"));
  CHECK(score("--model " + r.out()) != score("--model " + r.out() + "/base"));
  CHECK(score("--model " + plain.out()) ==
        score("--model " + reference_file("models/llama") + " --adapter " + plain.out() + "/adapter"));
  CHECK(score("--model " + all.out()) == score("--model " + all.out() + "/model"));
  write_file_atomically(r.dir / "perplexity.jsonl", "{\"ids\": [1, 5, 9, 200, 41, 3]}\n");
  const ProgramAnswer table =
      run_program("evaluate", "--models " + r.out() + " " + r.out() + "/base --tasks perplexity --data " +
                                  r.dir.path() + " --json " + (r.dir / "e.json"));
  INFO(table.error);
  REQUIRE(table.status == 0);
  const Json models = Json::parse_file(r.dir / "e.json").at("models");
  CHECK(models[0].at("tasks").at("perplexity").at("log_likelihood").as_double() !=
        models[1].at("tasks").at("perplexity").at("log_likelihood").as_double());
  CHECK_THAT(
      run_program("generate", "--model " + r.out() + " --adapter x --prompts " + (r.dir / "prompts.jsonl")).error,
      contains("an adapter of its own"));
  const ProgramAnswer inspected = run_program("inspect", r.out() + "/base --check");
  CHECK(inspected.status == 0);
  CHECK_THAT(inspected.out, contains("packed") && contains("bitsandbytes"));
  remove_tree(r.out() + "/base");
  CHECK_THAT(
      run_program("score", "--model " + r.out() + " --input " + (r.dir / "ids.jsonl") + " --out " + (r.dir / "s"))
          .error,
      contains("rounded base was not written"));
  remove_tree(r.out() + "/result.json");
  CHECK_THAT(
      run_program("score", "--model " + r.out() + " --input " + (r.dir / "ids.jsonl") + " --out " + (r.dir / "s"))
          .error,
      contains("not finished"));
  const ProgramAnswer packed_student =
      run_program("distil", "--teacher " + reference_file("models/llama") + " --student " + all.out() +
                                "/packed --train all --quantize none --prompts " + (r.dir / "prompts.jsonl") +
                                " --out " + (r.dir / "o"));
  CHECK(packed_student.status == 1);
  CHECK_THAT(packed_student.error, contains("packed: its weights cannot be trained"));
}

TEST_CASE("a model that no directory can describe is trained, with a note where base/ would be", "[programs][distil]") {
  const TemporaryDirectory dir;
  DecoderConfig config = read_hf_config(reference_file("models/llama"));
  config.rope.divisors.assign(static_cast<std::size_t>(config.head_size / 2), 1.5);
  config.rope.divisors[0] = 1;
  Model model = Model::from_config(config, 1);
  save_gguf(model, nullptr, dir / "m.gguf");
  for (const char* name : {"prompts", "validation"})
    write_file_atomically(dir / (std::string(name) + ".jsonl"),
                          "{\"prompt_ids\": [1, 10, 40, 7]}\n{\"prompt_ids\": [1, 90, 33]}\n");
  const std::string out = dir / "out";
  const ProgramAnswer answer = run_program(
      "distil",
      concat("--teacher ", dir / "m.gguf", " --prompts ", dir / "prompts.jsonl", " --validation ",
             dir / "validation.jsonl", " --out ", out,
             " --steps 1 --batch 2 --max-new-tokens 4 --threads 1 --quantize int4 --group-size 32 --lora-rank 2"));
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  CHECK_THAT(answer.error, contains("base/ is not written") && contains("rope_freqs"));
  CHECK_FALSE(path_exists(out + "/base"));
  CHECK(Json::parse_file(out + "/adapter/adapter_config.json").at("base_model_name_or_path").as_string() ==
        dir / "m.gguf");
  write_file_atomically(dir / "ids.jsonl", "{\"ids\": [1, 5, 9]}\n");
  CHECK_THAT(run_program("score", "--model " + out + " --input " + (dir / "ids.jsonl") + " --out " + (dir / "s")).error,
             contains("rounded base was not written"));
}
