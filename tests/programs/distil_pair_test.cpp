// SPDX-License-Identifier: Apache-2.0
// Teacher and student as public pairs are: GGUF files of one family whose chat templates differ by two braces, whose
// heads are padded differently or whose tokenizers differ in added tokens. The plain command distils them.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "support/catch.hpp"
#include "support/run_program.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::contains;
using kdlib_tests::ProgramAnswer;
using kdlib_tests::reference_file;
using kdlib_tests::run_program;
using kdlib_tests::TemporaryDirectory;
using Model = Decoder<Cpu, float>;

namespace {

/// ChatML with a note about tools, in which one brace or two stand around the example.
std::string chat_template(bool two_braces) {
  const std::string open = two_braces ? "{{" : "{", close = two_braces ? "}}" : "}";
  return R"({%- if tools %}{{- '<|im_start|>system\nAnswer with )" + open + R"("name": <name>)" + close +
         R"(<|im_end|>\n' }}{%- endif %}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + )"
         R"('<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})";
}

/// A GGUF file of a tiny Qwen2 with Qwen's tokenizer, to which tokens may be added.
void write_model(const std::string& path, std::uint64_t seed, bool two_braces, std::int64_t padding,
                 const std::vector<std::string>& added = {}, bool has_template = true) {
  const TemporaryDirectory dir;
  std::string tokenizer_json = read_file(reference_file("text/qwen3.tokenizer.json"));
  std::int32_t ids = Tokenizer::from_pretrained(reference_file("text/qwen3.tokenizer.json")).vocab_size();
  const std::size_t list = tokenizer_json.find("\"added_tokens\"");
  REQUIRE(list != std::string::npos);
  std::string entries;
  for (const std::string& content : added)
    entries +=
        concat("{\"id\":", ids++, ",\"content\":\"", content,
               "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},");
  tokenizer_json.insert(tokenizer_json.find('[', list) + 1, entries);
  write_file_atomically(dir / "tokenizer.json", tokenizer_json);
  write_file_atomically(dir / "tokenizer_config.json", R"({"eos_token":"<|endoftext|>"})");
  if (has_template) write_file_atomically(dir / "chat_template.jinja", chat_template(two_braces));
  DecoderConfig config;
  config.family = Family::qwen2;
  config.biases.q = config.biases.k = config.biases.v = true;
  config.vocab_size = ids + padding;
  config.hidden_size = 8;
  config.intermediate_size = 16;
  config.layers = 1;
  config.query_heads = config.kv_heads = 2;
  config.head_size = 4;
  config.tied_head = true;
  const Tokenizer tokenizer = Tokenizer::from_pretrained(dir.path());
  save_gguf(Model::from_config(config, seed), &tokenizer, path, {.type = GgufType::f32});
}

struct Pair {
  TemporaryDirectory dir;
  ProgramAnswer distil() {
    write_file_atomically(dir / "prompts.jsonl", R"({"messages":[{"role":"user","content":"Hello, world!"}]})"
                                                 "\n");
    return run_program("distil",
                       concat("--teacher ", dir / "teacher.gguf", " --student ", dir / "student.gguf", " --prompts ",
                              dir / "prompts.jsonl", " --validation ", dir / "prompts.jsonl", " --out ", dir / "out",
                              " --steps 2 --batch 1 --max-new-tokens 4 --threads 1 --quantize none"));
  }
};

}  // namespace

TEST_CASE("a pair of GGUF files whose templates differ by two braces distils", "[programs][distil]") {
  Pair pair;
  write_model(pair.dir / "teacher.gguf", 1, true, 7);
  write_model(pair.dir / "student.gguf", 2, false, 7);
  const ProgramAnswer answer = pair.distil();
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  CHECK(answer.error.find("ids are compared") == std::string::npos);
  CHECK(path_exists(pair.dir / "out/result.json"));
}

TEST_CASE("a pair whose tokenizers differ in added tokens and padding distils with a note", "[programs][distil]") {
  Pair pair;
  write_model(pair.dir / "teacher.gguf", 1, true, 7);
  write_model(pair.dir / "student.gguf", 2, false, 40, {"<|extra_mark|>"});
  const ProgramAnswer answer = pair.distil();
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  CHECK_THAT(answer.error, contains("only the student's tokenizer has") && contains("<|extra_mark|>") &&
                               contains("the heads are padded differently") && contains("ids are compared"));
}

TEST_CASE("caches of a teacher whose tokenizer differs in added tokens and padding distil with a note",
          "[programs][distil][cache]") {
  Pair pair;
  write_model(pair.dir / "teacher.gguf", 1, true, 7, {"<|extra_mark|>"});
  write_model(pair.dir / "student.gguf", 2, false, 40);
  write_file_atomically(pair.dir / "data.jsonl", "{\"text\":\"Hello, world!\"}\n{\"text\":\"The words of a line.\"}\n");
  const auto make = [&](const std::string& kind, const std::string& data) {
    return run_program("cache_logits", concat("--teacher ", pair.dir / "teacher.gguf", " --data ", pair.dir / data,
                                              " --out ", pair.dir / "cache", " --threads 1 ", kind));
  };
  const auto distil = [&](const std::string& more) {
    return run_program("distil", concat("--student ", pair.dir / "student.gguf", " --cache ", pair.dir / "cache",
                                        " --validation ", pair.dir / "data.jsonl", " --out ", pair.dir / "out",
                                        " --steps 2 --batch 1 --threads 1 --quantize none --resume no ", more));
  };
  for (const std::string kind : {"--kind hidden", "--kind logprobs --top-k 16 --temperatures 1"}) {
    CAPTURE(kind);
    const ProgramAnswer made = make(kind, "data.jsonl");
    INFO(made.error);
    REQUIRE(made.status == 0);
    const ProgramAnswer answer = distil("");
    INFO(answer.error);
    REQUIRE(answer.status == 0);
    CHECK_THAT(answer.error, contains("only the teacher's tokenizer has") && contains("<|extra_mark|>") &&
                                 contains("the heads are padded differently") && contains("ids are compared"));
    // Without the teacher's tokenizer, or with another one, nothing is guessed.
    const std::string kept = pair.dir / "cache/tokenizer/tokenizer.json";
    const std::string text = read_file(kept);
    write_file_atomically(kept, read_file(reference_file("text/qwen3.tokenizer.json")));
    CHECK_THAT(distil("").error, contains("cache/tokenizer: the tokenizer has the hash"));
    remove_tree(pair.dir / "cache/tokenizer");
    CHECK_THAT(distil("").error, contains("tokenizer is \"") && contains("the student's is \""));
    remove_tree(pair.dir / "cache");
  }
  // A cached text with the teacher's own token is refused by its place.
  write_file_atomically(pair.dir / "more.jsonl", "{\"text\":\"Hello <|extra_mark|> world\"}\n");
  REQUIRE(make("--kind hidden", "more.jsonl").status == 0);
  const ProgramAnswer refused = distil("");
  CHECK(refused.status == 1);
  CHECK_THAT(refused.error, contains("text 1: id") && contains("that the teacher and the student share"));
}

TEST_CASE("text with a token that the student lacks is refused by line", "[programs][distil]") {
  Pair pair;
  write_model(pair.dir / "teacher.gguf", 1, true, 7, {"<|extra_mark|>"});
  write_model(pair.dir / "student.gguf", 2, false, 7);
  CHECK(pair.distil().status == 0);
  write_file_atomically(pair.dir / "data.jsonl", "{\"text\":\"Hello <|extra_mark|> world\"}\n");
  const ProgramAnswer answer = run_program(
      "distil", concat("--teacher ", pair.dir / "teacher.gguf", " --student ", pair.dir / "student.gguf", " --data ",
                       pair.dir / "data.jsonl", " --validation ", pair.dir / "data.jsonl", " --out ", pair.dir / "out2",
                       " --lambda 0 --steps 1 --batch 1 --threads 1 --quantize none"));
  CHECK(answer.status == 1);
  CHECK_THAT(answer.error, contains("data.jsonl:1") && contains("outside the vocabulary"));
}

TEST_CASE("a base model without a chat template is told what to give, and distils raw prompts", "[programs][distil]") {
  const TemporaryDirectory dir;
  write_model(dir / "base.gguf", 3, true, 0, {}, false);
  const std::string start = concat("--teacher ", dir / "base.gguf", " --out ", dir / "out",
                                   " --steps 2 --batch 1 --max-new-tokens 4 --threads 1 --quantize none ");
  write_file_atomically(dir / "p.jsonl", "{\"prompt\": \"Hello, world!\"}\n");
  const std::string own = concat("--prompts ", dir / "p.jsonl", " --validation ", dir / "p.jsonl");
  for (const std::string& more : {std::string(), own}) {
    const ProgramAnswer answer = run_program("distil", start + more);
    CHECK(answer.status == 1);
    CHECK_THAT(answer.error, contains((dir / "base.gguf") + " has no chat template") && contains("--template chatml") &&
                                 contains("--raw") && contains("--data FILE") &&
                                 contains(more.empty() ? "the bundled " : "p.jsonl"));
    CHECK_FALSE(path_exists(dir / "out"));
  }
  const ProgramAnswer raw = run_program("distil", start + own + " --raw");
  INFO(raw.error);
  CHECK(raw.status == 0);
  CHECK(run_program("distil", start + own + " --template chatml --resume no").status == 0);
}
