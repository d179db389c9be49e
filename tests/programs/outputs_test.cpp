// SPDX-License-Identifier: Apache-2.0
// Outputs of the programs: two for one place, a place in use, what killed runs left, an stdout that is lost, notes.
#include <unistd.h>

#include <array>

#include "kdlib/io/json.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/tools/output_lock.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

const std::string model() { return reference_file("models/llama"); }

/// The id of a process that does not run any more.
long ended_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  int status = 0;
  ::waitpid(child, &status, 0);
  return child;
}

/// Runs a program whose stdout is a full disk; answers its exit status.
int status_without_stdout(const std::string& name, const std::string& arguments) {
  const int status = ::system((program_path(name) + " " + arguments + " > /dev/full 2> /dev/null").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// The reference Llama with its embedding's rows turned as a head of its own, which config.json does not know.
void write_other_head(const std::string& folder) {
  make_directories(folder);
  write_file_atomically(folder + "/config.json", read_file(model() + "/config.json"));
  const SafetensorsDirectory files(model());
  const std::vector<float> table = read_as<float>(files.at("model.embed_tokens.weight"));
  std::vector<float> head;
  for (std::size_t r = 320; r-- > 0;)
    head.insert(head.end(), table.begin() + static_cast<std::ptrdiff_t>(r * 64),
                table.begin() + static_cast<std::ptrdiff_t>((r + 1) * 64));
  SafetensorsWriter writer(folder + "/model.safetensors");
  for (const TensorInfo* t : files.tensors()) writer.add(*t);
  writer.add("lm_head.weight", Shape{320, 64}, std::span<const float>(head));
  writer.commit();
}

}  // namespace

TEST_CASE("two outputs in one file, and an output over an input, are refused before anything is read", "[programs]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "in.jsonl", "{\"ids\":[1,5,9]}\n");
  make_directories(dir / "sub");
  REQUIRE(::symlink((dir / "in.jsonl").c_str(), (dir / "link.jsonl").c_str()) == 0);
  const auto score = [&](const std::string& rest) {
    return run_program("score", "--model " + model() + " --input " + (dir / "in.jsonl") + rest);
  };
  for (const std::string& rest : {" --out " + (dir / "x") + " --logits " + (dir / "x"),
                                  " --out " + (dir / "x") + " --hidden " + (dir / "sub/../x"),
                                  " --out " + (dir / "x") + " --logits " + (dir / "y") + " --hidden " + (dir / "y"),
                                  " --out " + (dir / "in.jsonl"), " --out " + (dir / "link.jsonl")}) {
    CAPTURE(rest);
    const ProgramAnswer answer = score(rest);
    CHECK(answer.status == 2);
    CHECK_THAT(answer.error, contains("are one file"));
  }
  CHECK_FALSE(exists(dir / "x"));
  CHECK(read_file(dir / "in.jsonl") == "{\"ids\":[1,5,9]}\n");
  CHECK(score(" --out " + (dir / "x") + " --logits " + (dir / "y")).status == 0);

  REQUIRE(::symlink(model().c_str(), (dir / "m").c_str()) == 0);
  const ProgramAnswer onto = run_program("convert", "--model " + model() + " --to hf --out " + (dir / "m"));
  CHECK(onto.status == 2);
  CHECK_THAT(onto.error, contains("--out is --model"));
}

TEST_CASE("convert refuses an output that another process writes, and removes what a killed one left", "[programs]") {
  const TemporaryDirectory dir;
  const std::string hf = "--model " + model() + " --to hf --out " + (dir / "hf"),
                    gguf = "--model " + model() + " --to gguf --type f32 --out " + (dir / "m.gguf");
  {
    const OutputLock folder = OutputLock::folder(dir / "hf", "[test] "),
                     file = OutputLock::file(dir / "m.gguf", "[test] ");
    for (const std::string& command : {hf, gguf}) {
      const ProgramAnswer answer = run_program("convert", command);
      CHECK(answer.status == 1);
      CHECK_THAT(answer.error, contains("is being written by another process"));
    }
    CHECK_FALSE(exists(dir / "m.gguf"));
  }
  CHECK_FALSE(exists(dir / "hf"));  // the lock made it, and it got nothing
  make_directories(dir / "hf");
  const std::string ending = concat(".tmp-", ended_process(), "-0");
  for (const char* name : {"hf/model.safetensors", "m.gguf", "other.gguf"})
    write_file_atomically(dir / name + ending, "x");
  CHECK(run_program("convert", hf).status == 0);
  CHECK(run_program("convert", gguf).status == 0);
  CHECK_FALSE(exists(dir / "hf/model.safetensors" + ending));
  CHECK_FALSE(exists(dir / "m.gguf" + ending));
  CHECK(exists(dir / "other.gguf" + ending));  // not this output's
  CHECK_FALSE(exists(dir / "m.gguf.lock"));
}

TEST_CASE("a program whose stdout is lost does not end with 0", "[programs]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "in.jsonl", "{\"ids\":[1,5,9]}\n");
  CHECK(status_without_stdout("inspect", model()) == 1);
  CHECK(status_without_stdout("inspect", model() + " --json") == 1);
  CHECK(status_without_stdout("convert", "--model " + model() + " --to hf --out " + (dir / "o")) == 1);
  CHECK(status_without_stdout("convert", "--model " + model() + " --to hf --dry-run --out " + (dir / "o")) == 1);
  write_file_atomically(dir / "prompts.jsonl", "{\"prompt_ids\":[1,5,9]}\n");
  const std::string generate = "--model " + model() + " --max-new-tokens 2 --prompts " + (dir / "prompts.jsonl");
  CHECK(run_program("generate", generate).status == 0);
  CHECK(status_without_stdout("generate", generate) == 1);
  for (const char* name : {"inspect", "convert", "generate", "score", "evaluate", "tokenize", "sweep"}) {
    CAPTURE(name);
    CHECK(status_without_stdout(name, "--help") == 1);
    CHECK(run_program(name, "--help").status == 0);
  }
}

TEST_CASE("every program shows what was odd about a model", "[programs]") {
  const TemporaryDirectory dir;
  write_other_head(dir / "m");
  write_file_atomically(dir / "in.jsonl", "{\"ids\":[1,5,9,3,7,2,11]}\n");
  write_file_atomically(dir / "prompts.jsonl", "{\"prompt_ids\":[1,5,9]}\n");
  const std::string note = "note: " + (dir / "m") + ": config.json calls the head tied";
  const ProgramAnswer scored =
      run_program("score", "--model " + (dir / "m") + " --input " + (dir / "in.jsonl") + " --out " + (dir / "o.jsonl"));
  CHECK_THAT(scored.error, contains(note));
  const Json line = Json::parse(read_file(dir / "o.jsonl"), "o.jsonl");
  // tests/checkpoint/load_plan_test.cpp says where these numbers come from.
  const double wanted[] = {-7.1420, -6.9134, -8.8593, -9.2037, -8.5528, -6.8838};
  for (std::size_t i = 0; i < 6; ++i) CHECK(std::abs(line.at("log_probs")[i].as_double() - wanted[i]) < 2e-4);
  CHECK_THAT(
      run_program("generate", "--model " + (dir / "m") + " --max-new-tokens 2 --prompts " + (dir / "prompts.jsonl"))
          .error,
      contains(note));
  CHECK_THAT(run_program("inspect", dir / "m").out, contains(note));
  CHECK_THAT(run_program("convert", "--model " + (dir / "m") + " --to hf --out " + (dir / "h")).out, contains(note));
  CHECK_THAT(read_file(dir / "h/config.json"), contains("\"tie_word_embeddings\": false"));
}

TEST_CASE("outputs that cannot be written are refused before any model is read", "[programs]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "in.jsonl", "{\"ids\":[1,5,9]}\n");
  write_file_atomically(dir / "file", "");
  make_directories(dir / "folder");
  // No model is there: whoever names the output has not looked for one.
  const std::string score = "--model /no/such/model --input " + (dir / "in.jsonl"),
                    evaluate = "--models /no/such/model --tasks mmlu --data " + dir.path(),
                    cache = "--teacher /no/such/model --data " + (dir / "in.jsonl");
  for (const std::string& place : {dir / "missing/x", dir / "file/x", dir / "folder"}) {
    CAPTURE(place);
    for (const auto& [program, arguments] : {std::pair<std::string, std::string>{"score", score + " --out " + place},
                                             {"score", score + " --out " + (dir / "o") + " --logits " + place},
                                             {"score", score + " --out " + (dir / "o") + " --hidden " + place},
                                             {"evaluate", evaluate + " --json " + place},
                                             {"evaluate", evaluate + " --items " + place}}) {
      CAPTURE(arguments);
      const ProgramAnswer answer = run_program(program, arguments);
      CHECK(answer.status == 1);
      CHECK_THAT(answer.error, contains(place) && !contains("/no/such/model"));
    }
  }
  for (const std::string& place : {dir / "file", dir / "file/x"}) {
    const ProgramAnswer answer = run_program("cache_logits", cache + " --out " + place);
    CHECK(answer.status == 1);
    CHECK_THAT(answer.error, contains("--out " + place) && !contains("/no/such/model"));
  }
  CHECK(list_directory(dir.path()) == std::vector<std::string>{"file", "folder", "in.jsonl"});
  const ProgramAnswer folder = run_program("convert", "--model " + model() + " --to gguf --out " + (dir / "folder"));
  CHECK(folder.status == 1);
  CHECK_THAT(folder.error, contains(dir / "folder"));
}

TEST_CASE("a program clears what a killed one left of its own outputs", "[programs]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "in.jsonl", "{\"ids\":[1,5,9]}\n");
  const std::string ending = concat(".tmp-", ended_process(), "-0");
  for (const char* name : {"o.jsonl", "l.safetensors", "other"}) write_file_atomically(dir / name + ending, "x");
  write_file_atomically(dir / "o.jsonl.lock", "");
  CHECK(run_program("score", "--model " + model() + " --input " + (dir / "in.jsonl") + " --out " + (dir / "o.jsonl") +
                                 " --logits " + (dir / "l.safetensors"))
            .status == 0);
  CHECK(list_directory(dir.path()) ==
        std::vector<std::string>{"in.jsonl", "l.safetensors", "o.jsonl", "other" + ending});
}

TEST_CASE("options that nothing would read are refused by every program", "[programs]") {
  const std::string m = " --model " + model();
  for (const auto& [program, arguments, option] : std::vector<std::array<std::string, 3>>{
           {"generate", m + " --prompt a --template chatml", "--template"},
           {"generate", m + " --prompt a --temperature 0 --top-p 0.5", "--top-p"},
           {"generate", m + " --prompt a --batch 4", "--batch"},
           {"generate", m + " --prompt a --merge", "--merge"},
           {"score", m + " --input i --out o --merge", "--merge"},
           {"convert", m + " --to hf --out o --name n", "--name"},
           {"convert", m + " --to hf --out o --group-size 32", "--group-size"},
           {"convert", m + " --to hf --out o --quantize nf4 --quantize-rule affine", "--quantize-rule"},
           {"convert", m + " --to hf --out o --quantize int4 --double-quant", "--double-quant"},
           {"evaluate", "--models a --data d --tasks perplexity --reference r", "--reference"},
           {"evaluate", "--models a --data d --tasks perplexity --template chatml", "--template"},
           {"evaluate", "--models a --data d --tasks perplexity --shots 2", "--shots"},
           {"evaluate", "--models a --data d --tasks perplexity --items i", "--items"},
           {"evaluate", "--models a --data d --tasks calibration --bos on", "--bos"},
           {"cache_logits", "--out o --max-length 5", "--max-length"},
           {"cache_logits", "--out o --teacher t --data d --kind hidden --top-k 3", "--top-k"},
           {"tokenize", "--tokenizer t --check --plain", "--plain"},
           {"tokenize", "--tokenizer t --decode --template chatml", "--template"},
           {"tokenize", "--tokenizer t --plain --no-special", "--no-special"},
           {"sweep", "s.yaml --table --jobs 2", "--jobs"}}) {
    CAPTURE(program, arguments);
    const ProgramAnswer answer = run_program(program, arguments);
    CHECK(answer.status == 2);
    CHECK_THAT(answer.error, contains("[" + program + "] " + option + " would have no effect: "));
  }
}

TEST_CASE("a chat template is refused where no line of the text has turns", "[programs]") {
  const TemporaryDirectory dir;
  write_file_atomically(dir / "ids.jsonl", "{\"ids\": [5, 6, 7]}\n");
  write_file_atomically(dir / "prompts.jsonl", "{\"prompt_ids\": [5, 6]}\n");
  write_file_atomically(dir / "held_out.jsonl", "{\"ids\": [5, 6, 7]}\n");
  const std::string m = " --model " + model() + " --template chatml ";
  for (const auto& [program, arguments] : std::vector<std::array<std::string, 2>>{
           {"generate", m + "--prompts " + (dir / "prompts.jsonl")},
           {"score", m + "--input " + (dir / "ids.jsonl") + " --out " + (dir / "o")},
           {"evaluate", "--template chatml --models " + model() + " --tasks calibration --data " + dir.path()},
           {"distil", "--template chatml --teacher " + model() + " --student " + model() + " --data " +
                          (dir / "ids.jsonl") + " --validation " + (dir / "ids.jsonl") + " --out " + (dir / "run")}}) {
    CAPTURE(program, arguments);
    const ProgramAnswer answer = run_program(program, arguments);
    CHECK(answer.status != 0);
    CHECK_THAT(answer.error, contains("[" + program + "] --template chatml is for turns of conversations"));
  }
}
