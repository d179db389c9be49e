// SPDX-License-Identifier: Apache-2.0
// The program `inspect` as a user runs it: what it says of good files, and that what is wrong is named with exit
// status 1.
#include <cmath>
#include <limits>

#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

namespace {
using kdlib_tests::contains;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;

std::string all_problems(const ProgramAnswer& answer) {
  std::string out;
  for (const kdlib::Json& problem : kdlib::Json::parse(answer.out, "inspect").at("problems"))
    out += std::string(problem.as_string()) + "\n";
  return out;
}

/// A copy of the small Llama with some of its tensors changed.
void copy_model(const std::string& to, const std::string& changed, float value, const std::string& left_out,
                const std::vector<std::string>& added = {}) {
  const std::string from = reference_file("models/llama");
  kdlib::write_file_atomically(to + "/config.json", kdlib::read_file(from + "/config.json"));
  const kdlib::SafetensorsDirectory files(from);
  std::vector<std::vector<float>> kept;  // the writer reads them at commit()
  kept.reserve(files.tensors().size());
  kdlib::SafetensorsWriter writer(to + "/model.safetensors");
  for (const kdlib::TensorInfo* t : files.tensors()) {
    if (t->name == left_out) continue;
    std::vector<float>& values = kept.emplace_back(kdlib::read_as<float>(*t));
    if (t->name == changed) values[1] = value;
    writer.add(t->name, t->shape(), std::span<const float>(values));
  }
  const std::vector<float> two = {1, 2};
  for (const std::string& name : added) writer.add(name, kdlib::Shape{2}, std::span<const float>(two));
  writer.commit();
}
}  // namespace

TEST_CASE("inspect says what a Hugging Face directory holds", "[programs]") {
  const ProgramAnswer answer = run_program("inspect", reference_file("models/llama") + " --json --tensors --check");
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  const kdlib::Json json = kdlib::Json::parse(answer.out, "inspect");
  const kdlib::SafetensorsDirectory files(reference_file("models/llama"));
  CHECK(json.at("kind").as_string() == "Hugging Face directory");
  CHECK(json.at("architecture").at("family").as_string() == "llama");
  CHECK(json.at("tensors").size() == files.tensors().size());
  std::uint64_t bytes = 0;
  for (const kdlib::TensorInfo* t : files.tensors()) bytes += t->data.size();
  CHECK(json.at("types")[0].at("bytes").as_uint() == bytes);
  CHECK(json.at("problems").size() == 0);
  for (const kdlib::Json& tensor : json.at("tensors"))
    CHECK(tensor.at("target").as_string() == std::string(tensor.at("name").as_string()) + ", all rows");
}

TEST_CASE("inspect prints the loader's plan: targets, what is ignored, every problem", "[programs]") {
  const ProgramAnswer gguf = run_program("inspect", reference_file("gguf/golden_qwen3moe.gguf") + " --tensors");
  CHECK_THAT(gguf.out, contains("-> model.layers.0.mlp.experts.gate_up_proj, rows 6 to 11 of each expert"));
  const ProgramAnswer llama = run_program("inspect", reference_file("gguf/golden_llama.gguf") + " --tensors");
  CHECK_THAT(llama.out, contains("self_attn.q_proj.weight, interleaved by heads of 4"));

  const TemporaryDirectory dir;
  copy_model(dir.path(), "", 0, "model.norm.weight",
             {"model.layers.0.self_attn.rotary_emb.inv_freq", "stray", "esc\x1b[31mape"});
  const ProgramAnswer answer = run_program("inspect", dir.path() + " --tensors");
  CHECK(answer.status == 1);
  CHECK_THAT(answer.out, contains("-> ignored: rotary angles") && contains("\"model.norm.weight\" [64] is missing") &&
                             contains("tensor \"stray\" has no place"));
  CHECK(answer.out.find('\x1b') == std::string::npos);
  CHECK_THAT(answer.out, contains("esc\\x1B[31mape"));
}

TEST_CASE("inspect names values that are not finite, missing tensors and files that are not there", "[programs]") {
  const TemporaryDirectory dir;
  copy_model(dir.path(), "model.norm.weight", std::numeric_limits<float>::quiet_NaN(), "");
  CHECK(run_program("inspect", dir.path()).status == 0);  // values are only read with --check
  const ProgramAnswer bad = run_program("inspect", dir.path() + " --check --json");
  CHECK(bad.status == 1);
  CHECK(all_problems(bad) ==
        dir / "model.safetensors" + ": tensor \"model.norm.weight\" holds 1 value that is not finite: [1] nan\n");
  copy_model(dir.path(), "model.layers.1.mlp.up_proj.weight", -std::numeric_limits<float>::infinity(), "");
  CHECK_THAT(all_problems(run_program("inspect", dir.path() + " --check --json")), contains("[0, 1] -inf"));

  copy_model(dir.path(), "", 0, "model.norm.weight");
  const ProgramAnswer missing = run_program("inspect", dir.path() + " --check --json");
  CHECK(missing.status == 1);
  CHECK(all_problems(missing).find("model.norm.weight") != std::string::npos);

  const ProgramAnswer nothing = run_program("inspect", dir / "none");
  CHECK(nothing.status == 1);
  CHECK(nothing.error.find("is not there") != std::string::npos);
  CHECK(run_program("inspect", "").status == 2);
}

TEST_CASE("inspect goes on behind a broken part and names it", "[programs]") {
  const TemporaryDirectory dir;
  copy_model(dir.path(), "", 0, "");
  kdlib::write_file_atomically(dir / "config.json", "{\"model_type\": \"mamba\"}");
  const ProgramAnswer answer = run_program("inspect", dir.path() + " --json");
  CHECK(answer.status == 1);
  CHECK(all_problems(answer).find("mamba") != std::string::npos);
  CHECK(kdlib::Json::parse(answer.out, "inspect").at("types").size() == 1);

  kdlib::write_file_atomically(dir / "broken.gguf", "GGUF and no more");
  const ProgramAnswer gguf = run_program("inspect", dir / "broken.gguf");
  CHECK(gguf.status == 1);
  CHECK(gguf.error.find("broken.gguf") != std::string::npos);
}

TEST_CASE("inspect of a run tells of its model and of its adapter, and of what is wrong with either", "[programs]") {
  const TemporaryDirectory dir;
  const std::string peft = reference_file("peft/llama_all_linear"), run = dir / "run", adapter = run + "/adapter";
  kdlib::make_directories(adapter);
  kdlib::write_file_atomically(run + "/config.yaml", "quantize: none\n");
  kdlib::write_file_atomically(run + "/result.json", "{}");
  std::string config = kdlib::read_file(peft + "/adapter_config.json");
  const std::string name = "\"base_model_name_or_path\": ";
  const std::size_t begin = config.find(name) + name.size();
  config.replace(begin, config.find_first_of(",\n", begin) - begin, "\"" + reference_file("models/llama") + "\"");
  kdlib::write_file_atomically(adapter + "/adapter_config.json", config);
  const std::string weights = kdlib::read_file(peft + "/adapter_model.safetensors");
  kdlib::write_file_atomically(adapter + "/adapter_model.safetensors", weights);

  const ProgramAnswer answer = run_program("inspect", run + " --json --check --tensors");
  INFO(answer.error << answer.out);
  REQUIRE(answer.status == 0);
  const kdlib::Json json = kdlib::Json::parse(answer.out, "inspect");
  const kdlib::SafetensorsDirectory model(reference_file("models/llama"));
  CHECK(json.at("run").at("adapter").as_string() == adapter);
  CHECK(json.at("adapter").at("peft_type").as_string() == "LORA");
  CHECK(json.at("architecture").at("family").as_string() == "llama");
  CHECK(json.at("tensors").size() > model.tensors().size());
  CHECK(json.at("problems").size() == 0);

  kdlib::write_file_atomically(adapter + "/adapter_model.safetensors", weights.substr(0, weights.size() - 1));
  const ProgramAnswer cut = run_program("inspect", run + " --json");
  CHECK(cut.status == 1);
  CHECK_THAT(all_problems(cut), contains("adapter_model.safetensors"));
}

TEST_CASE("inspect --json cuts metadata between characters and shows bytes that are no text", "[programs]") {
  const TemporaryDirectory dir;
  std::string name = "a";
  for (int i = 0; i < 60; ++i) name += "\u65e5";
  const std::string gguf = dir / "m.gguf";
  REQUIRE(run_program("convert",
                      "--model " + reference_file("models/llama") + " --to gguf --name " + name + " --out " + gguf)
              .status == 0);
  const ProgramAnswer answer = run_program("inspect", gguf + " --json");
  CAPTURE(answer.error);
  CHECK(answer.status == 0);
  CHECK(kdlib::Json::parse(answer.out, "inspect").at("metadata").at("general.name").as_string() ==
        name.substr(0, 79) + " ...");
  std::string bytes = kdlib::read_file(gguf);
  bytes[bytes.find(name)] = '\xe9';
  kdlib::write_file_atomically(gguf, bytes);
  CHECK_THAT(run_program("inspect", gguf + " --json").out, contains("\\\\xE9"));
}

TEST_CASE("inspect --to gives a run's metrics to other programs", "[programs]") {
  const TemporaryDirectory dir;
  const std::string run = dir / "run";
  kdlib::make_directories(run);
  kdlib::write_file_atomically(run + "/metrics.jsonl",
                               "{\"step\":0,\"evaluation/forward_kl\":0.5}\n"
                               "{\"step\":1,\"time\":2.5,\"train/loss\":1.25,\"train/grad_norm\":null}\n"
                               "{\"step\":2,\"time\":4,\"train/loss\":0.75,\"evaluation/forward_kl\":0.25}\n");
  const auto made = [&](const std::string& to, const std::string& more = "") {
    const ProgramAnswer answer = run_program("inspect", run + " --to " + to + " --out " + (dir / to) + more);
    INFO(answer.error);
    REQUIRE(answer.status == 0);
  };
  made("csv");
  CHECK(kdlib::read_file(dir / "csv/metrics.csv") ==
        "step,evaluation/forward_kl,time,train/loss,train/grad_norm\n"
        "0,0.5,,,\n"
        "1,,2.5,1.25,nan\n"
        "2,0.25,4.0,0.75,\n");
  made("mlflow", " --run-id f00d");
  const kdlib::Json batch = kdlib::Json::parse_file(dir / "mlflow/batch-1.json");
  CHECK(batch.at("run_id").as_string() == "f00d");
  const kdlib::Json metrics = batch.at("metrics");
  REQUIRE(metrics.size() == 6);  // not the value that is no number
  CHECK(metrics[2].at("key").as_string() == "train/loss");
  CHECK(metrics[2].at("value").as_double() == 1.25);
  CHECK(metrics[2].at("step").as_int() == 1);
  CHECK(metrics[4].at("timestamp").as_int() - metrics[2].at("timestamp").as_int() == 1500);
  made("tensorboard");  // tests/interop/tensorboard reads such files by TensorBoard itself
  const ProgramAnswer none = run_program("inspect", (dir / "csv") + " --to csv --out " + (dir / "none"));
  CHECK(none.status == 1);
  CHECK_THAT(none.error, contains("metrics.jsonl is not there: give the folder of a run of distil"));
}
