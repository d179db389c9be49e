// SPDX-License-Identifier: Apache-2.0
// The program `generate`: flags, output forms, errors on bad input and exit statuses.
#include <algorithm>

#include "kdlib/io/json.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"

using namespace kdlib_tests;

namespace {

ProgramAnswer generate(const std::string& arguments) { return run_program("generate", arguments); }

std::string model() { return "--model " + reference_file("models/llama"); }

/// A file of lines, and the option that names it.
struct PromptFile {
  TemporaryDirectory folder;
  explicit PromptFile(const std::string& text) { kdlib::write_file_atomically(folder / "p.jsonl", text); }
  std::string option() const { return " --prompts " + (folder / "p.jsonl"); }
};

}  // namespace

TEST_CASE("generate prints ids or JSON in the order of the prompts, and speeds on stderr", "[rollout][program]") {
  if (!exists(program_path("generate"))) KDLIB_SKIP("the program generate is not built (KDLIB_BIN_DIR)");
  const PromptFile prompts("{\"prompt_ids\":[1,2,3]}\n{\"prompt_ids\":[4,5]}\n");
  const ProgramAnswer json =
      generate(model() + prompts.option() + " --json --max-new-tokens 4 --temperature 0.7 --seed 3");
  CAPTURE(json.error);
  REQUIRE(json.status == 0);
  const std::size_t end = json.out.find('\n');
  const kdlib::Json first = kdlib::Json::parse(json.out.substr(0, end), "first"),
                    second = kdlib::Json::parse(json.out.substr(end + 1), "second");
  REQUIRE(first.at("prompt_ids").size() == 3);
  REQUIRE(second.at("prompt_ids").size() == 2);
  REQUIRE(first.at("ids").size() == first.at("log_probs").size());
  REQUIRE(first.at("ids").size() == first.at("full_log_probs").size());
  for (const kdlib::Json& x : first.at("log_probs")) REQUIRE(x.as_double() <= 0);
  for (const kdlib::Json& x : first.at("full_log_probs")) REQUIRE(x.as_double() < 0);
  REQUIRE_THAT(json.error, contains("prompt: 5 tokens") && contains("decoding: ") && contains("tokens/s"));

  const ProgramAnswer again =
      generate(model() + prompts.option() + " --json --max-new-tokens 4 --temperature 0.7 --seed 3 --batch 1");
  const ProgramAnswer other =
      generate(model() + prompts.option() + " --json --max-new-tokens 4 --temperature 0.7 --seed 4");
  REQUIRE(again.out.substr(0, again.out.find("log_probs")) == json.out.substr(0, json.out.find("log_probs")));
  REQUIRE(other.out != json.out);

  const std::string sampled = " --json --max-new-tokens 4 --temperature 0.7 --seed 3 --batch-invariant --batch ";
  const ProgramAnswer alone = generate(model() + prompts.option() + sampled + "1");
  REQUIRE(alone.status == 0);
  REQUIRE(alone.out == generate(model() + prompts.option() + sampled + "2").out);
  REQUIRE_THAT(generate(model() + prompts.option() + " --batch-invariant --device cuda").error,
               contains("--batch-invariant"));
  REQUIRE_THAT(generate(model() + prompts.option() + " --cuda-graphs on").error,
               contains("--cuda-graphs") && contains("--device cpu has no graphs"));

  const ProgramAnswer ids = generate(model() + prompts.option() + " --ids --max-new-tokens 1 --temperature 0");
  REQUIRE(ids.status == 0);
  REQUIRE(ids.out.front() == '[');
  REQUIRE(std::count(ids.out.begin(), ids.out.end(), '\n') == 2);
}

TEST_CASE("generate ends with 2 on bad usage and 0 on --help", "[rollout][program]") {
  if (!exists(program_path("generate"))) KDLIB_SKIP("the program generate is not built (KDLIB_BIN_DIR)");
  REQUIRE(generate("--help").status == 0);
  REQUIRE_THAT(generate("--help").out,
               contains("--max-new-tokens") && contains("--min-p") && contains("--adapter") && contains("tokens"));
  REQUIRE(generate("").status == 2);
  REQUIRE(generate(model()).status == 2);
  REQUIRE_THAT(generate(model()).error, contains("--prompt TEXT or --prompts FILE"));
  REQUIRE(generate(model() + " --prompt a --prompts b").status == 2);
  REQUIRE(generate(model() + " --prompt a --top-p 1.5").status == 2);
  REQUIRE(generate(model() + " --prompt a --max-new-tokens 0").status == 2);
  REQUIRE(generate(model() + " --prompt a --nonsense").status == 2);
  // Plain text is the default: there is no --raw, and --help says so.
  REQUIRE(generate(model() + " --prompt a --raw").status == 2);
  REQUIRE_THAT(generate("--help").out, contains("--raw"));
}

TEST_CASE("generate ends with 1 on bad input and says what to do", "[rollout][program]") {
  if (!exists(program_path("generate"))) KDLIB_SKIP("the program generate is not built (KDLIB_BIN_DIR)");
  const auto fails = [](const std::string& arguments, const std::string& part) {
    const ProgramAnswer answer = generate(arguments);
    CAPTURE(arguments, answer.error);
    REQUIRE(answer.status == 1);
    REQUIRE(answer.out.empty());
    REQUIRE_THAT(answer.error, contains(part));
  };
  fails("--model /nowhere --prompt a", "/nowhere is not there: give a Hugging Face directory or a GGUF file");
  fails(model() + " --prompts /nowhere.jsonl", "--prompts /nowhere.jsonl is not there: give a file of JSON lines");
  fails(model() + " --prompt a", "needs a tokenizer");
  fails(model() + " --adapter /nowhere --prompt a", "/nowhere");
  fails(model() + PromptFile("").option(), "has no lines");
  fails(model() + PromptFile("{\"prompt_ids\":[]}").option(), "is empty: give at least one token");
  fails(model() + PromptFile("{\"prompt_ids\":[1]}\n{\"prompt_ids\":[1,320]}").option(),
        ":2: id 320 at position 1 is outside the vocabulary of 320");
  fails(model() + PromptFile("{\"ids\":[1,2]}").option(), "has its answer already");
  std::string ids = "1";
  for (int i = 0; i < 5000; ++i) ids += ",1";
  fails(model() + PromptFile("{\"prompt_ids\":[" + ids + "]}").option(), "shorten it");
}

TEST_CASE("generate refuses a tokenizer that has more ids than the model has rows", "[rollout][program]") {
  if (!exists(program_path("generate"))) KDLIB_SKIP("the program generate is not built (KDLIB_BIN_DIR)");
  const TemporaryDirectory folder;
  for (const char* name : {"config.json", "generation_config.json", "model.safetensors"})
    kdlib::write_file_atomically(folder / name, kdlib::read_file(reference_file("models/llama") + "/" + name));
  kdlib::write_file_atomically(folder / "tokenizer.json",
                               kdlib::read_file(reference_file("text/smollm2.tokenizer.json")));
  const ProgramAnswer answer = generate("--model " + folder.path() + " --prompt Hi");
  CAPTURE(answer.error);
  REQUIRE(answer.status == 1);
  REQUIRE_THAT(answer.error, contains("320"));
}

TEST_CASE("an answer ends at the end of a turn that a GGUF file's metadata do not name", "[rollout][program]") {
  if (!exists(program_path("generate"))) KDLIB_SKIP("the program generate is not built (KDLIB_BIN_DIR)");
  const auto path = shared_file("reference/field_cases/12-gguf-end-of-turn/eos_is_endoftext.gguf");
  if (!path) KDLIB_SKIP("reference/field_cases/12-gguf-end-of-turn is not here (set KDLIB_SHARED_DIR)");
  // llama.cpp: <|im_end|> (318) ends generation although eos_token_id is <|endoftext|> (319).
  const ProgramAnswer answer =
      generate("--model " + *path + " --chat --prompt the --temperature 0 --max-new-tokens 6 --json");
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  const kdlib::Json line = kdlib::Json::parse(answer.out.substr(0, answer.out.find('\n')), "answer");
  REQUIRE(line.at("ids").size() == 1);
  CHECK(line.at("ids")[0].as_int() == 318);
  CHECK(line.at("stopped").as_bool());
}

TEST_CASE("generate --tools asks for conversations and a tokenizer", "[rollout][program]") {
  if (!exists(program_path("generate"))) KDLIB_SKIP("the program generate is not built (KDLIB_BIN_DIR)");
  const ProgramAnswer plain = generate(model() + " --prompt a --tools calculator");
  CHECK(plain.status == 2);
  CHECK_THAT(plain.error, contains("--tools needs conversations"));
  const PromptFile prompts("{\"prompt_ids\":[1,2,3]}\n");
  const ProgramAnswer bare = generate(model() + prompts.option() + " --tools calculator");
  CHECK(bare.status == 1);
  CHECK_THAT(bare.error, contains("--tools needs a tokenizer"));
}
