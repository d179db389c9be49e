// SPDX-License-Identifier: Apache-2.0
// The short mains of examples/, run as programs on toy models.
#include <algorithm>

#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"

using namespace kdlib_tests;

namespace {

/// The character that stands for a byte in byte-level vocabularies: printable ones for themselves, the others from
/// U+0100 on.
std::string byte_character(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))};
}

/// A tokenizer whose tokens are the bytes, at ids 3 to 258.
std::string byte_tokenizer() {
  std::string vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string character = byte_character(byte);
    const std::string quoted = character == "\"" || character == "\\" ? "\\" + character : character;
    vocabulary += (byte == 0 ? "\"" : ",\"") + quoted + "\":" + std::to_string(byte + 3);
  }
  return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":2,"content":"<end>",)"
         R"("single_word":false,"lstrip":false,)"
         R"("rstrip":false,"normalized":false,"special":true}],"normalizer":null,)"
         R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,)"
         R"("trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel",)"
         R"("add_prefix_space":false,)"
         R"("trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,)"
         R"("continuing_subword_prefix":"",)"
         R"("end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{)" +
         vocabulary + R"(},"merges":[]}})";
}

/// A toy model with a byte tokenizer and a context of 20 tokens, and a file of prompts.
struct Toy {
  TemporaryDirectory folder;
  std::string model = folder / "model", prompts = folder / "prompts.jsonl";
  Toy() {
    kdlib::make_directories(model);
    std::string config = kdlib::read_file(reference_file("models/llama/config.json"));
    const std::string context = "\"max_position_embeddings\": 256";
    config.replace(config.find(context), context.size(), "\"max_position_embeddings\": 20");
    kdlib::write_file_atomically(model + "/config.json", config);
    kdlib::write_file_atomically(model + "/model.safetensors",
                                 kdlib::read_file(reference_file("models/llama/model.safetensors")));
    kdlib::write_file_atomically(model + "/tokenizer.json", byte_tokenizer());
    std::string lines;
    for (int i = 0; i < 20; ++i)
      lines +=
          "{\"prompt_ids\":[86,100,124,35," + std::to_string(51 + i % 10) + "]}\n";  // "Say 7" without a chat template
    kdlib::write_file_atomically(prompts, lines);
  }
};

}  // namespace

TEST_CASE("on_policy runs four steps on a toy model, and a run that is continued ends like one that was not",
          "[recipe]") {
  if (!exists(program_path("on_policy"))) KDLIB_SKIP("the program on_policy is not built (KDLIB_BIN_DIR)");
  const Toy toy;
  const std::string models = reference_file("models/llama3_rope_bias") + " " + toy.model + " " + toy.prompts;
  const std::string whole = toy.folder / "whole", halves = toy.folder / "halves";
  const ProgramAnswer answer = run_program("on_policy", models + " 4 " + whole);
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  auto files = run_files(whole);
  CHECK(std::count(files.at("metrics.jsonl").begin(), files.at("metrics.jsonl").end(), '\n') == 4);
  CHECK_THAT(files.at("metrics.jsonl"), contains("train/reverse_kl=") && contains("train/student_entropy="));
  CHECK(files.count("adapter_model.safetensors") == 1);
  CHECK(files.count("checkpoints/4/state.json") == 1);

  REQUIRE(run_program("on_policy", models + " 2 " + halves).status == 0);
  CHECK(run_files(halves).at("adapter_model.safetensors") != files.at("adapter_model.safetensors"));
  REQUIRE(run_program("on_policy", models + " 4 " + halves).status == 0);
  auto continued = run_files(halves);
  CHECK(continued.at("metrics.jsonl") == files.at("metrics.jsonl"));
  CHECK(continued.at("adapter_model.safetensors") == files.at("adapter_model.safetensors"));
  CHECK(continued.at("checkpoints/4/optimizer.safetensors") == files.at("checkpoints/4/optimizer.safetensors"));
}

TEST_CASE("offline_kd learns from a cache that cache_logits wrote", "[recipe]") {
  for (const char* program : {"offline_kd", "cache_logits"})
    if (!exists(program_path(program)))
      KDLIB_SKIP("the programs offline_kd and cache_logits are not built (KDLIB_BIN_DIR)");
  const Toy toy;
  const std::string text = toy.folder / "text.jsonl", cache = toy.folder / "cache";
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += "{\"ids\":[86,100,124,35," + std::to_string(40 + i) + ",60," + std::to_string(100 + i % 7) + "]}\n";
  kdlib::write_file_atomically(text, lines);
  const ProgramAnswer made =
      run_program("cache_logits", "--teacher " + reference_file("models/llama3_rope_bias") + " --data " + text +
                                      " --out " + cache + " --top-k 8 --temperatures 2 --verify 3");
  CAPTURE(made.error);
  REQUIRE(made.status == 0);
  CHECK_THAT(made.out, contains("40 texts, 240 rows, complete") && contains("verified: all checksums"));

  const std::string models = toy.model + " " + cache + " ";
  const std::string whole = toy.folder / "whole", halves = toy.folder / "halves";
  const ProgramAnswer answer = run_program("offline_kd", models + "6 " + whole);
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  auto files = run_files(whole);
  CHECK(std::count(files.at("metrics.jsonl").begin(), files.at("metrics.jsonl").end(), '\n') == 6);
  CHECK_THAT(files.at("metrics.jsonl"), contains("train/teacher_support_mass=") && contains("train/tail_loss="));
  CHECK(files.at("model.safetensors") != kdlib::read_file(toy.model + "/model.safetensors"));
  CHECK_THAT(run_program("offline_kd", toy.model + " " + (toy.folder / "none") + " 6 " + halves).error,
             contains("none is not there: give the folder of a cache that cache_logits made"));
}

TEST_CASE("moe_stages makes a mixture of a dense model, trains it in three stages and goes on in the open one",
          "[recipe]") {
  if (!exists(program_path("moe_stages"))) KDLIB_SKIP("the program moe_stages is not built (KDLIB_BIN_DIR)");
  const Toy toy;
  const std::string models = toy.model + " " + toy.prompts + " 4 ", out = toy.folder / "out";
  const ProgramAnswer answer = run_program("moe_stages", models + out);
  CAPTURE(answer.error);
  REQUIRE(answer.status == 0);
  auto files = run_files(out);
  const std::string& metrics = files.at("metrics.jsonl");
  CHECK(std::count(metrics.begin(), metrics.end(), '\n') == 1 + 4 + 1);
  CHECK_THAT(metrics, contains("experts/balance=") && contains("experts/max_share="));
  CHECK_THAT(files.at("config.json"), contains("\"model_type\": \"qwen2_moe\"") && contains("\"num_experts\": 8"));
  CHECK_THAT(files.at("checkpoints/6/state.json"), contains("on_policy"));
  CHECK(files.count("checkpoints/5/state.json") == 1);

  // What a kill after the second stage leaves: the last stage is open, and is trained again from there.
  kdlib::remove_tree(out + "/checkpoints/6");
  kdlib::remove_tree(out + "/model.safetensors");
  REQUIRE(run_program("moe_stages", models + out).status == 0);
  CHECK(differences(run_files(out), files) == "");
  kdlib::remove_tree(out + "/checkpoints/6");
  kdlib::remove_tree(out + "/checkpoints/5");  // a kill in the last stage's first save: nothing is left to go on from
  REQUIRE(run_program("moe_stages", models + out).status == 0);
  CHECK(differences(run_files(out), files) == "");

  CHECK_THAT(run_program("moe_stages", reference_file("models/qwen3_moe") + " " + toy.prompts + " 4 " + out).error,
             contains("[upcycle] the model (qwen3_moe) is a mixture of"));
}

TEST_CASE("tiny_loop learns without a trainer", "[recipe]") {
  if (!exists(program_path("tiny_loop"))) KDLIB_SKIP("the program tiny_loop is not built (KDLIB_BIN_DIR)");
  const ProgramAnswer answer = run_program("tiny_loop", "");
  CHECK(answer.status == 0);  // its main answers 1 unless the divergence fell below 1
  CHECK(std::count(answer.out.begin(), answer.out.end(), '\n') == 20);
}

TEST_CASE("the target mains end with 2 and their usage on a wrong number of arguments, and with 1 on a missing model",
          "[recipe]") {
  if (!exists(program_path("on_policy"))) KDLIB_SKIP("the program on_policy is not built (KDLIB_BIN_DIR)");
  CHECK(run_program("on_policy", "").status == 2);
  CHECK_THAT(run_program("on_policy", "one two").error, contains("<teacher> <student> <prompts> <steps> <out>"));
  const ProgramAnswer missing = run_program("on_policy", "/nowhere/teacher /nowhere/student p 4 o");
  CHECK(missing.status == 1);
  CHECK_THAT(missing.error, contains("/nowhere/teacher"));
}
