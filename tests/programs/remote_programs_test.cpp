// SPDX-License-Identifier: Apache-2.0
// score and cache_logits with a model that a server has.
#include <atomic>
#include <cmath>

#include "kdlib/io/jsonl.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "support/catch.hpp"
#include "support/fake_teacher.hpp"
#include "support/run_program.hpp"
#include "support/tolerance.hpp"

using namespace kdlib_tests;

namespace {

std::string lines(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    out += "{\"ids\": [1";
    for (int k = 0; k < 4 + i % 5; ++k) out += kdlib::concat(", ", 3 + (7 * i + 31 * k) % 290);
    out += "]}\n";
  }
  return out;
}

/// A server of vLLM's kind whose teacher is a formula, and text.
struct Job {
  TemporaryDirectory dir;
  std::string model = reference_file("models/llama");
  std::int64_t vocabulary = kdlib::Json::parse_file(model + "/config.json").at("vocab_size").as_int();
  FormulaTeacher formula{vocabulary};
  FakeTeacherServer server{[this](const FakeRequest& r) { return formula.answer(r); }};

  Job() { kdlib::write_file_atomically(dir / "text.jsonl", lines(12)); }
  ProgramAnswer run(const std::string& program, const std::string& more) const { return run_program(program, more); }
};

/// A program that was built without libcurl says so; there is nothing to test then.
#define KDLIB_SKIP_WITHOUT_CURL(answer) \
  if ((answer).error.find("built without libcurl") != std::string::npos) KDLIB_SKIP("libcurl is not here")

}  // namespace

TEST_CASE("score asks servers for the log-probability of every token, each once and in order", "[programs][remote]") {
  if (!exists(program_path("score"))) KDLIB_SKIP("the program score is not built");
  const Job job;
  // Dialects that do not tell how many tokens there are need a tokenizer; this model has none, so it is made.
  const std::string to = " --input " + (job.dir / "text.jsonl") + " --out " + (job.dir / "out.jsonl");
  const std::string asked = "--model " + job.server.url() + to;
  const ProgramAnswer unknown = job.run("score", asked);
  KDLIB_SKIP_WITHOUT_CURL(unknown);
  CHECK(unknown.status == 1);
  CHECK_THAT(unknown.error, contains("does not say how many tokens its teacher has"));
  const std::string tokenizer = reference_file("text/qwen3.tokenizer.json");
  const FormulaTeacher wide(kdlib::Tokenizer::from_pretrained(tokenizer).vocab_size());
  FakeTeacherServer tokenizing([&](const FakeRequest& r) -> FakeReply {
    if (r.path == "/tokenize") return {404, "{}"};  // not every server makes tokens of text for others
    return wide.answer(r);
  });
  const ProgramAnswer answer =
      job.run("score", "--model " + tokenizing.url() + to + " --tokenizer " + tokenizer + " --teacher-in-flight 3");
  INFO(answer.error);
  REQUIRE(answer.status == 0);
  CHECK_THAT(answer.error, contains("tokens scored") && contains("perplexity") && contains("could not be asked"));
  kdlib::JsonlReader reader(job.dir / "out.jsonl");
  int read = 0;
  for (std::optional<kdlib::Json> line = reader.next(); line; line = reader.next(), ++read) {
    const auto ids = FormulaTeacher::ids_of(line->at("ids"));
    const kdlib::Json values = line->at("log_probs");
    REQUIRE(values.size() + 1 == ids.size());
    for (std::size_t t = 1; t < ids.size(); ++t) {
      const auto p = wide.log_probs(std::span(ids).first(t));
      CHECK(near(values[t - 1].as_double(), p[static_cast<std::size_t>(ids[t])], 1e-5));
    }
  }
  CHECK(read == 12);
  // Three to find the dialect and the model, one of three tokens, seven probes (temperatures, prefixes), text asked.
  CHECK(tokenizing.requests() >= 12 + 4);
  CHECK(tokenizing.requests() <= 12 + 16);
}

TEST_CASE("what a model on a server cannot do is refused by score and cache_logits", "[programs][remote]") {
  for (const char* program : {"score", "cache_logits"})
    if (!exists(program_path(program))) KDLIB_SKIP("score and cache_logits are not built");
  const Job job;
  const std::string text = job.dir / "text.jsonl", out = job.dir / "out";
  const std::string asked = "--model " + job.server.url() + " --input " + text + " --out " + out;
  const auto refused = [&](const ProgramAnswer& answer, const std::string& part) {
    INFO(answer.error);
    CHECK(answer.status == 2);
    CHECK_THAT(answer.error, contains(part));
    CHECK(!exists(out));
  };
  refused(job.run("score", asked + " --logits " + out + "2"), "--logits would have no effect: servers give");
  refused(job.run("score", asked + " --adapter x"), "--adapter would have no effect: the model of --model URL");
  const std::string here = "--model " + job.model + " --input " + text + " --out " + out;
  refused(job.run("score", here + " --teacher-api vllm"), "--teacher-api would have no effect: it belongs to");
  refused(job.run("score", here + " --tokenizer x"), "--tokenizer would have no effect");
  const std::string cache = "--data " + text + " --out " + out;
  refused(job.run("cache_logits", cache + " --teacher " + job.model + " --teacher-key K"), "--teacher-key");
  refused(job.run("cache_logits", cache + " --teacher " + job.model + " --tokenizer x"), "--tokenizer belongs to");
  refused(job.run("cache_logits", cache + " --teacher " + job.server.url() + " --workspace 3"), "--workspace");
  const std::string tokenizer = " --tokenizer " + reference_file("text/qwen3.tokenizer.json");
  const ProgramAnswer hidden = job.run(
      "cache_logits", cache + " --teacher " + job.server.url() + tokenizer + " --kind hidden --teacher-api vllm");
  KDLIB_SKIP_WITHOUT_CURL(hidden);
  CHECK(hidden.status == 1);
  CHECK_THAT(hidden.error, contains("sends no hidden states"));
}

TEST_CASE("cache_logits keeps a server's most probable tokens, goes on where it was stopped, and compares",
          "[programs][remote]") {
  if (!exists(program_path("cache_logits"))) KDLIB_SKIP("the program cache_logits is not built");
  const Job job;
  const std::string cache = job.dir / "cache", tokenizer = reference_file("text/qwen3.tokenizer.json");
  const FormulaTeacher wide(kdlib::Tokenizer::from_pretrained(tokenizer).vocab_size());
  std::atomic<std::int64_t> asked{0}, fails_from{1 << 20};
  FakeTeacherServer server([&](const FakeRequest& r) -> FakeReply {
    if (r.path == "/tokenize") return {404, "{}"};
    if (r.path == "/v1/completions" && asked++ >= fails_from) return {400, R"({"error":{"message":"out of paper"}})"};
    return wide.answer(r);
  });
  const std::string to = " --data " + (job.dir / "text.jsonl") + " --out " + cache + " --top-k 6 --segment 4 --batch 2";
  const std::string command = "--teacher " + server.url() + " --tokenizer " + tokenizer + to;
  // The start asks 8 times; behind it the second of three segments is not finished.
  fails_from = 8 + 6;
  const ProgramAnswer stopped = job.run("cache_logits", command);
  KDLIB_SKIP_WITHOUT_CURL(stopped);
  CHECK(stopped.status == 1);
  CHECK_THAT(stopped.error, contains("out of paper"));
  fails_from = 1 << 20;
  asked = 0;
  const ProgramAnswer rest = job.run("cache_logits", command + " --verify 3");
  INFO(rest.error << rest.out);
  REQUIRE(rest.status == 0);
  CHECK_THAT(rest.out, contains("12 texts") && contains("complete") && contains("made now: 8 texts") &&
                           contains("3 documents made again differ by at most"));
  const kdlib::Json meta = kdlib::Json::parse_file(cache + "/meta.json");
  CHECK_THAT(kdlib::read_file(cache + "/meta.json"), contains("server model toy"));
  CHECK(exists(cache + "/tokenizer/tokenizer.json"));
}
