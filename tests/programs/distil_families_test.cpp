// SPDX-License-Identifier: Apache-2.0
// Tiny models of Mistral's and Gemma's families through the programs, from distil to evaluate; a teacher that calls a
// tool while it writes.
#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/run_files.hpp"
#include "support/run_program.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

void write_family(const std::string& folder, Family family, std::uint64_t seed) {
  DecoderConfig c = golden_config(family);
  make_directories(folder);
  write_file_atomically(folder + "/tokenizer.json", read_file(reference_file("text/pieces.bpe-gemma.json")));
  write_file_atomically(folder + "/tokenizer_config.json",
                        R"({"bos_token":"<s>","eos_token":"</s>","add_bos_token":true})");
  c.vocab_size = Tokenizer::from_pretrained(folder + "/tokenizer.json").vocab_size();
  c.bos_ids = {1};
  c.eos_ids = {2};
  c.query_scalar = 0;  // GGUF has no key for another one
  if (family == Family::mistral) c.windows.clear();
  Model::from_config(c, seed).save_pretrained(folder);
}

ProgramAnswer run(const std::string& program, const std::string& arguments) {
  ProgramAnswer answer = run_program(program, arguments);
  INFO(program << " " << arguments << "\n" << answer.error);
  CHECK(answer.status == 0);
  return answer;
}

/// Values of a parameter that are not 0: row, column, value.
void place(Model& model, const char* name, std::initializer_list<std::tuple<std::int32_t, int, float>> values) {
  Tensor<float, Cpu>& table = model.find_parameter(name)->value;
  table.fill_zero();
  for (const auto& [row, column, value] : values) table.data()[row * table.shape()[1] + column] = value;
}

/// A model that continues certain tokens by certain others and knows nothing else: behind the end of a line it opens a
/// call of the calculator, which is one added token of its tokenizer, closes it and ends its turn.
void write_caller(const std::string& folder) {
  make_directories(folder);
  std::string text = read_file(reference_file("text/qwen3.tokenizer.json"));
  Tokenizer tokenizer = Tokenizer::from_pretrained(reference_file("text/qwen3.tokenizer.json"));
  const std::int32_t body = tokenizer.vocab_size();
  const std::string entry =
      concat("{\"id\":", body,
             R"(,"content":"\n{\"name\": \"calculator\", \"arguments\": {\"expression\": \"6*7\"}}\n",)"
             R"("single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false},)");
  text.insert(text.find('[', text.find("\"added_tokens\"")) + 1, entry);
  write_file_atomically(folder + "/tokenizer.json", text);
  write_file_atomically(folder + "/tokenizer_config.json", R"({"eos_token":"<|im_end|>"})");
  DecoderConfig c;
  c.family = Family::qwen2;
  c.vocab_size = body + 1;
  c.hidden_size = c.intermediate_size = 8;
  c.layers = 1;
  c.query_heads = c.kv_heads = 2;
  c.head_size = 4;
  c.eos_ids = {*tokenizer.token_to_id("<|im_end|>")};
  Model model = Model::from_config(c, 1);
  for (const char* out : {"model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight"})
    place(model, out, {});
  const std::int32_t line_end = tokenizer.encode("\n").at(0), opens = *tokenizer.token_to_id("<tool_call>"),
                     closes = *tokenizer.token_to_id("</tool_call>");
  place(model, "model.embed_tokens.weight", {{line_end, 0, 1}, {opens, 1, 1}, {body, 2, 1}, {closes, 3, 1}});
  place(model, "lm_head.weight", {{opens, 0, 40}, {body, 1, 40}, {closes, 2, 40}, {c.eos_ids[0], 3, 40}});
  model.save_pretrained(folder);
}

}  // namespace

TEST_CASE("tiny models of Mistral's and Gemma's families go through distil, generate, convert and evaluate",
          "[programs][distil]") {
  for (const Family family : {Family::mistral, Family::gemma2, Family::gemma3}) {
    CAPTURE(family_name(family));
    const TemporaryDirectory dir;
    write_family(dir / "teacher", family, 1);
    write_family(dir / "student", family, 2);
    write_file_atomically(dir / "p.jsonl", "{\"prompt\": \"the word\"}\n{\"prompt\": \"a line of text\"}\n");
    write_file_atomically(dir / "held_out.jsonl", "{\"text\": \"the words of a line\"}\n{\"text\": \"one more\"}\n");
    run("distil", concat("--teacher ", dir / "teacher", " --student ", dir / "student", " --prompts ", dir / "p.jsonl",
                         " --validation ", dir / "held_out.jsonl", " --out ", dir / "out",
                         " --raw --lambda 0.5 --steps 8 --batch 2 --max-new-tokens 6 --threads 1 --quantize none "
                         "--train all --learning-rate 0.01 --warmup 1"));
    const std::vector<double> kl = metric_of_run(dir / "out", "evaluation/forward_kl");
    REQUIRE(kl.size() >= 2);
    CHECK(kl.back() < kl.front());
    // The tokenizer has no scores, so that its GGUF file has none: ids.
    write_file_atomically(dir / "ids.jsonl", "{\"prompt_ids\": [1, 300, 41]}\n{\"prompt_ids\": [1, 77, 505, 9]}\n");
    const std::string how = concat(" --prompts ", dir / "ids.jsonl", " --json --temperature 0 --max-new-tokens 5");
    const ProgramAnswer written = run("generate", concat("--model ", dir / "out/model", how));
    run("convert", concat("--model ", dir / "out/model", " --to gguf --type f32 --out ", dir / "s.gguf"));
    const ProgramAnswer again = run("generate", concat("--model ", dir / "s.gguf", how));
    write_file_atomically(dir / "a.jsonl", written.out);
    write_file_atomically(dir / "b.jsonl", again.out);
    JsonlReader a(dir / "a.jsonl"), b(dir / "b.jsonl");
    for (auto x = a.next(), y = b.next(); x || y; x = a.next(), y = b.next()) {
      REQUIRE((x && y));
      REQUIRE(x->at("ids").size() == y->at("ids").size());
      for (std::size_t i = 0; i < x->at("ids").size(); ++i) CHECK(x->at("ids")[i].as_int() == y->at("ids")[i].as_int());
    }
    run("evaluate", concat("--models ", dir / "teacher", " ", dir / "out/model", " --reference ", dir / "teacher",
                           " --tasks kl --data ", dir.path(), " --json ", dir / "e.json"));
    const Json models = Json::parse_file(dir / "e.json").at("models");
    CHECK(models[0].at("tasks").at("kl").at("forward").as_double() == Approx(0).margin(1e-6));
    CHECK(near(models[1].at("tasks").at("kl").at("forward").as_double(), kl.back(), Tolerance<float>::loss));
  }
}

TEST_CASE("distil --tools: the teacher's calls are answered within its text, and the answers are not learned",
          "[programs][distil]") {
  const TemporaryDirectory dir;
  write_caller(dir / "teacher");
  write_file_atomically(dir / "p.jsonl", R"({"messages":[{"role":"user","content":"What is 6 * 7?"}]})"
                                         "\n");
  const std::string start = concat("--teacher ", dir / "teacher", " --prompts ", dir / "p.jsonl", " --validation ",
                                   dir / "p.jsonl", " --template qwen3 --steps 2 --batch 1 --samples 1 --threads 1 ",
                                   "--quantize none --train lora --lora-rank 2 --max-new-tokens 40 --tool-rounds 3 ");
  run("distil", start + "--lambda 0 --tools calculator --out " + (dir / "out"));
  const Tokenizer tokenizer = Tokenizer::from_pretrained(dir / "teacher");
  std::size_t texts = 0;
  for (const std::string& name : list_directory(dir / "out/text")) {
    JsonlReader lines(dir / ("out/text/" + name));
    lines.next();  // what the block depends on
    while (const auto line = lines.next()) {
      ++texts;
      std::vector<std::int32_t> own, answers;
      for (std::size_t i = 0; i < line->at("ids").size(); ++i)
        (line->at("given")[i].as_int() != 0 ? answers : own).push_back(line->at("ids")[i].as_int());
      const std::string call =
          "<tool_call>\n{\"name\": \"calculator\", \"arguments\": {\"expression\": \"6*7\"}}\n</tool_call><|im_end|>";
      const std::string answer =
          "\n<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n"
          "<|im_start|>assistant\n";
      CHECK(tokenizer.decode(own) == call + call + call + call);  // three are answered
      CHECK(tokenizer.decode(answers) == answer + answer + answer);
    }
  }
  CHECK(texts > 0);
  // The student writes itself.
  run("distil", start + "--lambda 1 --tools calculator --out " + (dir / "online"));
  // Text of other tools is not gone on with.
  write_file_atomically(dir / "canned.jsonl",
                        R"({"tool":{"type":"function","function":{"name":"calculator","description":"d",)"
                        R"("parameters":{"type":"object","properties":{}}}}})"
                        "\n"
                        R"({"name":"calculator","answer":"41"})"
                        "\n");
  const ProgramAnswer other =
      run_program("distil", start + "--lambda 0 --tools " + (dir / "canned.jsonl") + " --out " + (dir / "out"));
  CHECK(other.status != 0);
  CHECK_THAT(other.error, contains("tools"));
  // A template without tools, or one that lists them and calls none, is refused before the run has its folder.
  write_file_atomically(dir / "lists.jinja",
                        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
                        "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n");
  for (const std::string& name : {std::string("chatml"), dir / "lists.jinja"}) {
    std::string without = start;
    without.replace(without.find("qwen3"), 5, name);
    const ProgramAnswer plain =
        run_program("distil", without + "--lambda 0 --tools calculator --out " + (dir / "plain"));
    CHECK(plain.status == 1);
    CHECK_THAT(plain.error, contains(name == "chatml" ? "the chat template never reads tools; choose another one"
                                                      : "writes calls in a form that kdlib does not read back"));
    CHECK_FALSE(path_exists(dir / "plain"));
  }
}
