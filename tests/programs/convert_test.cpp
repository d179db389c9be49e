// SPDX-License-Identifier: Apache-2.0
// The program `convert` as a user runs it: both directions, adapters, rounding, shards, the plan, wrong usage.
#include <algorithm>
#include <cmath>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/quant/gguf_blocks.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
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
ProgramAnswer convert(const std::string& arguments) {
  const ProgramAnswer answer = run_program("convert", arguments);
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  return answer;
}

/// True when both directories hold the same tensors, value for value.
bool equal_weights(const std::string& a, const std::string& b) {
  const SafetensorsDirectory first(a), second(b);
  if (first.tensors().size() != second.tensors().size()) return false;
  for (const TensorInfo* t : first.tensors())
    if (second.find(t->name) == nullptr || read_as<float>(*t) != read_as<float>(second.at(t->name))) return false;
  return true;
}

/// The small Qwen-MoE with a tokenizer whose ids fit into its 320 rows.
void copy_with_tokenizer(const std::string& from, const std::string& to) {
  make_directories(to);
  for (const std::string& name : list_directory(from))
    if (name != "expected.safetensors") write_file_atomically(join_path(to, name), read_file(join_path(from, name)));
  write_file_atomically(
      join_path(to, "tokenizer.json"),
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":4,"content":"<e>",)"
      R"("single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],)"
      R"("normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
      R"("use_regex":true},)"
      R"("post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
      R"("use_regex":true},)"
      R"("model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"",)"
      R"("end_of_word_suffix":"","fuse_unk":false,)"
      R"("byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"Ġ":2,"ab":3},"merges":[["a","b"]]}})");
  write_file_atomically(join_path(to, "tokenizer_config.json"),
                        R"({"eos_token":"<e>","chat_template":"{{ messages }}"})");
  write_file_atomically(join_path(to, "generation_config.json"), R"({"eos_token_id":4})");
}
}  // namespace

TEST_CASE("convert takes a directory to GGUF and back with its tokenizer", "[programs]") {
  for (const std::string name : {"qwen2_moe", "llama3_rope_bias", "gpt_oss"}) {
    CAPTURE(name);
    const TemporaryDirectory dir;
    copy_with_tokenizer(reference_file("models/" + name), dir / "model");
    const ProgramAnswer out = convert("--model " + (dir / "model") + " --to gguf --type f32 --out " + (dir / "m.gguf"));
    CHECK_THAT(out.out, contains("written"));
    const GgufFile file(dir / "m.gguf");
    CHECK(file.at("general.name").as_string() == "model");
    CHECK(file.at("tokenizer.chat_template").as_string() == "{{ messages }}");
    CHECK(file.at("tokenizer.ggml.tokens").size() == 320);
    convert("--model " + (dir / "m.gguf") + " --to hf --out " + (dir / "back"));
    CHECK(equal_weights(dir / "model", dir / "back"));
    const Tokenizer before = Tokenizer::from_pretrained(dir / "model"),
                    after = Tokenizer::from_pretrained(dir / "back");
    CHECK(after.content_hash() == before.content_hash());
    CHECK(after.encode("ab b<e>") == before.encode("ab b<e>"));
    CHECK(after.stop_ids() == before.stop_ids());
    CHECK(after.chat_template() == "{{ messages }}");
    const ProgramAnswer inspected = run_program("inspect", (dir / "m.gguf") + " --check --json");
    CHECK(inspected.status == 0);
    CHECK(Json::parse(inspected.out, "inspect").at("problems").size() == 0);
    CHECK(Json::parse(inspected.out, "inspect").at("architecture").contains("experts") == (name != "llama3_rope_bias"));
  }
}

TEST_CASE("convert merges an adapter, rounds, and splits into shards", "[programs]") {
  const TemporaryDirectory dir;
  const std::string model = reference_file("models/llama"), adapter = reference_file("peft/llama_all_linear");
  convert("--model " + model + " --adapter " + adapter + " --merge --to hf --out " + (dir / "merged"));
  convert("--model " + model + " --adapter " + adapter + " --merge --to hf --out " + (dir / "shards") +
          " --max-shard-size 100KB");
  CHECK(equal_weights(dir / "merged", dir / "shards"));
  CHECK_FALSE(equal_weights(model, dir / "merged"));
  CHECK(kdlib_tests::exists(dir / "shards/model.safetensors.index.json"));
  std::size_t shards = 0;
  for (const std::string& name : list_directory(dir / "shards")) {
    if (!name.ends_with(".safetensors")) continue;
    ++shards;
    CHECK(file_size(dir / ("shards/" + name)) < 110000);
  }
  CHECK(shards > 3);
  convert("--model " + (dir / "merged") + " --to gguf --type q8_0 --out " + (dir / "q.gguf") + " --name tiny");
  CHECK(GgufFile(dir / "q.gguf").at("general.name").as_string() == "tiny");
  CHECK(GgufFile(dir / "q.gguf").at("general.file_type").as_int() == 7);
  // Rounded weights have few values a row and group; the adapter goes on top of them.
  convert("--model " + model + " --quantize int4 --group-size 16 --to gguf --type f32 --out " + (dir / "r.gguf"));
  const std::vector<float> values = decode_tensor<float>(GgufFile(dir / "r.gguf").tensor("blk.0.attn_v.weight"));
  std::vector<float> group(values.begin(), values.begin() + 16);
  std::sort(group.begin(), group.end());
  float step = 1e9f;
  for (std::size_t i = 1; i < 16; ++i)
    if (group[i] - group[i - 1] > 1e-6f) step = std::min(step, group[i] - group[i - 1]);
  for (const float x : group) CHECK(std::abs(x / step - std::round(x / step)) < 1e-3f);
  convert("--model " + model + " --quantize int4 --group-size 16 --adapter " + adapter + " --merge --to hf --out " +
          (dir / "both"));
  CHECK_FALSE(equal_weights(dir / "both", dir / "merged"));
}

TEST_CASE("convert writes an adapter alone, as GGUF and as PEFT's directory", "[programs]") {
  const TemporaryDirectory dir;
  const std::string model = "--model " + reference_file("models/llama"), peft = reference_file("peft/llama_all_linear"),
                    gguf = dir / "a.gguf", back = dir / "back";
  CHECK_THAT(convert(model + " --adapter " + peft + " --to gguf --out " + gguf).out, contains("written"));
  CHECK(GgufFile(gguf).at("general.type").as_string() == "adapter");
  CHECK_THAT(run_program("inspect", gguf).out, contains("adapter.lora.alpha"));
  convert(model + " --adapter " + gguf + " --to hf --out " + back);
  const SafetensorsFile before(peft + "/adapter_model.safetensors"), after(back + "/adapter_model.safetensors");
  REQUIRE(after.tensors().size() == before.tensors().size());
  for (const TensorInfo& t : before.tensors()) CHECK(read_as<float>(t) == read_as<float>(after.at(t.name)));
  for (const std::string& adapter : {peft, gguf})
    convert(model + " --adapter " + adapter + " --merge --to hf --out " + (adapter == peft ? dir / "p" : dir / "g"));
  CHECK(equal_weights(dir / "p", dir / "g"));
}

TEST_CASE("convert --packed writes codes whose values are those of convert --quantize", "[programs]") {
  const TemporaryDirectory dir;
  const std::string model = reference_file("models/llama3_rope_bias");
  for (const std::string how :
       {"--quantize nf4 --double-quant", "--quantize int4 --group-size 32 --quantize-rule affine",
        "--quantize int8 --group-size 32"}) {
    CAPTURE(how);
    const TemporaryDirectory made;
    const ProgramAnswer packed =
        convert("--model " + model + " " + how + " --packed --to hf --out " + (made / "packed"));
    CHECK_THAT(packed.out, contains("matrices are packed in the form of"));
    convert("--model " + (made / "packed") + " --to hf --dtype float32 --out " + (made / "back"));
    convert("--model " + model + " " + how + " --to hf --dtype float32 --out " + (made / "values"));
    CHECK(equal_weights(made / "back", made / "values"));
    const ProgramAnswer again = run_program("convert", "--model " + model + " --to hf --out " + (made / "values"));
    CHECK(again.status == 2);
    CHECK_THAT(again.error, contains("holds a model already"));
    const ProgramAnswer inside =
        run_program("convert", "--model " + (made / "back") + " --to gguf --out " + (made / "back/model.safetensors"));
    CHECK(inside.status == 2);
    CHECK_THAT(inside.error, contains("lies in it"));
  }
  const ProgramAnswer refused = run_program("convert", "--model " + model + " --packed --to hf --out " + (dir / "x"));
  CHECK(refused.status == 2);
  CHECK_THAT(refused.error, contains("--packed needs --to hf and --quantize KIND"));
}

TEST_CASE("convert --dry-run writes nothing and names what would stop it", "[programs]") {
  const TemporaryDirectory dir;
  const ProgramAnswer plan = convert("--model " + reference_file("models/gpt_oss_mxfp4") +
                                     " --to gguf --type mxfp4 --dry-run --out " + (dir / "m.gguf"));
  CHECK_THAT(plan.out, contains("6 experts"));
  CHECK_THAT(plan.out, contains("nothing was written"));
  CHECK_FALSE(kdlib_tests::exists(dir / "m.gguf"));
  const auto refused = [&](const std::string& arguments, int status, const char* text) {
    CAPTURE(arguments);
    const ProgramAnswer answer = run_program("convert", arguments);
    CHECK(answer.status == status);
    CHECK_THAT(answer.error, contains(text));
  };
  const std::string llama = "--model " + reference_file("models/llama") + " --out " + (dir / "x");
  refused("--model " + reference_file("models/qwen2_window") + " --to gguf --dry-run --out " + (dir / "w.gguf"), 1,
          "sliding windows of 5 keys");
  refused("--model " + (dir / "none") + " --to gguf --out " + (dir / "w.gguf"), 1, "is not there");
  refused(llama + " --to gguf --type q4_k", 2, "it can be F32, F16");
  refused(llama + " --to gguf --type mxfp4", 1, "llama has none");
  refused(llama + " --to hf --type f16", 2, "--type belongs to --to gguf");
  refused(llama + " --to gguf --dtype float16", 2, "belong to --to hf");
  refused(llama + " --to hf --max-shard-size 5TB", 2, "5TB");
  refused(llama + " --to hf --adapter x --quantize int4", 2, "an adapter is written alone");
  refused(llama + " --to gguf --adapter x --type q8_0", 2, "--type of an adapter is f32, f16 or bf16");
  refused(llama + " --to onnx", 2, "onnx");
  CHECK_FALSE(kdlib_tests::exists(dir / "x"));
}
