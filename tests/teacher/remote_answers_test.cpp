// SPDX-License-Identifier: Apache-2.0
// Answers of vLLM, SGLang and llama.cpp's server: what is taken from them, and each lie with its sentence.
#include <algorithm>
#include <cmath>

#include "kdlib/teacher/remote_answers.hpp"
#include "support/catch.hpp"
#include "support/fake_teacher.hpp"
#include "support/refusal.hpp"

using namespace kdlib;
using kdlib_tests::FormulaTeacher;
using kdlib_tests::refusal;
using Ids = std::vector<std::int32_t>;

namespace {

const FormulaTeacher teacher(17);
const ScoredDocument document{{3, 1, 4, 1, 5, 9, 2, 6}, {1, 2, 5, 6}};

RemoteNeeds needs_of(RemoteWant want, std::int64_t top_k = 0) {
  RemoteNeeds needs;
  needs.want = want;
  needs.top_k = top_k;
  needs.vocabulary = 17;
  return needs;
}

/// What the formula says of the rows of `document`.
void check_top_k(const RemoteRows& rows, std::size_t K) {
  REQUIRE(rows.rows == 4);
  for (std::size_t r = 0; r < document.rows.size(); ++r) {
    const auto prefix = std::span(document.ids).first(static_cast<std::size_t>(document.rows[r]) + 1);
    const std::vector<double> p = teacher.log_probs(prefix);
    const Ids best = FormulaTeacher::order(p);
    double mass = 0;
    for (std::size_t k = 0; k < K; ++k) {
      REQUIRE(rows.ids[r * K + k] == best[k]);
      REQUIRE(rows.log_probs[r * K + k] == static_cast<float>(p[static_cast<std::size_t>(best[k])]));
      mass += std::exp(p[static_cast<std::size_t>(best[k])]);
    }
    REQUIRE(std::abs(std::exp(static_cast<double>(rows.log_tail[r])) - (1 - mass)) < 1e-6);
  }
}
void check_labels(const RemoteRows& rows) {
  for (std::size_t r = 0; r < document.rows.size(); ++r) {
    const auto at = static_cast<std::size_t>(document.rows[r]) + 1;
    const std::vector<double> p = teacher.log_probs(std::span(document.ids).first(at));
    REQUIRE(rows.label[r] == static_cast<float>(p[static_cast<std::size_t>(document.ids[at])]));
  }
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), by);
}

/// What a vLLM answer with one change is refused for.
std::string lie(const std::string& what, const std::string& by, std::int64_t top_k = 3) {
  const RemoteNeeds needs = needs_of(top_k > 0 ? RemoteWant::top_k : RemoteWant::sampled, top_k);
  const std::string body = replaced(teacher.vllm_body(document.ids, top_k), what, by);
  return refusal([&] { read_vllm(body, document, needs, "http://h:1/v1/completions"); });
}

}  // namespace

TEST_CASE("rows of vLLM, SGLang and llama.cpp's server are the teacher's", "[remote]") {
  for (const std::int64_t K : {1, 3, 16, 17}) {
    const RemoteNeeds needs = needs_of(RemoteWant::top_k, K);
    check_top_k(read_vllm(teacher.vllm_body(document.ids, K), document, needs, "s"), static_cast<std::size_t>(K));
    check_top_k(read_sglang(teacher.sglang_body(document.ids, 1, K), document, needs, "s"),
                static_cast<std::size_t>(K));
    check_top_k(read_sglang(teacher.sglang_body(document.ids, 0, K), document, needs, "s"),
                static_cast<std::size_t>(K));  // servers that begin at 0 whatever they were asked
    RemoteRows rows;
    rows.resize(4, needs);
    for (std::size_t r = 0; r < 4; ++r) {
      const auto prefix = static_cast<std::ptrdiff_t>(document.rows[r]) + 1;
      const std::string body = teacher.llama_cpp_body(Ids(document.ids.begin(), document.ids.begin() + prefix), K);
      rows.put(static_cast<std::int64_t>(r), read_llama_cpp(body, document, r, needs, "s"), needs);
    }
    check_top_k(rows, static_cast<std::size_t>(K));
  }
  const RemoteNeeds needs = needs_of(RemoteWant::sampled);
  check_labels(read_vllm(teacher.vllm_body(document.ids, 0), document, needs, "s"));
  check_labels(read_sglang(teacher.sglang_body(document.ids, 1, 0), document, needs, "s"));
}

TEST_CASE("ids beyond the student's vocabulary are dropped, and their mass is the tail's", "[remote]") {
  RemoteNeeds needs = needs_of(RemoteWant::top_k, 17);
  needs.vocabulary = 10;
  const RemoteRows rows = read_vllm(teacher.vllm_body(document.ids, 17), document, needs, "s");
  for (std::size_t r = 0; r < 4; ++r) {
    double mass = 0;
    int absent = 0;
    for (std::size_t k = 0; k < 17; ++k) {
      REQUIRE(rows.ids[r * 17 + k] < 10);
      if (rows.ids[r * 17 + k] < 0) ++absent;
      else mass += std::exp(static_cast<double>(rows.log_probs[r * 17 + k]));
    }
    REQUIRE(absent == 7);
    REQUIRE(std::abs(mass + std::exp(static_cast<double>(rows.log_tail[r])) - 1) < 1e-6);
  }
}

TEST_CASE("NaN and infinities that Python writes are read, and texts in quotes stay", "[remote]") {
  REQUIRE(plain_json(R"({"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" Infinity"})") ==
          R"({"a":null,"b":[-1e308,1e308],"c":"NaN \" Infinity"})");
  REQUIRE(plain_json(R"({"a":1})") == R"({"a":1})");
  // A token of the top 17 without probability: absent, nothing else changes.
  const RemoteNeeds needs = needs_of(RemoteWant::top_k, 17);
  const std::vector<double> p = teacher.log_probs(std::span(document.ids).first(2));
  const std::int32_t rarest = FormulaTeacher::order(p).back();
  const std::string number = FormulaTeacher::number(p[static_cast<std::size_t>(rarest)]);
  for (const char* none : {"-Infinity", "-9999.0"}) {
    const RemoteRows rows =
        read_vllm(replaced(teacher.vllm_body(document.ids, 17), number, none), document, needs, "s");
    REQUIRE(rows.ids[16] == -1);
    REQUIRE(rows.ids[15] >= 0);
  }
}

TEST_CASE("an answer that lies is refused with its position", "[remote]") {
  const std::string first = FormulaTeacher::number([] {
    const std::vector<double> p = teacher.log_probs(std::span(document.ids).first(2));
    return *std::max_element(p.begin(), p.end());
  }());
  REQUIRE_THAT(lie(first, "NaN"), contains("token 2 of the document: a log-probability is NaN or null"));
  REQUIRE_THAT(lie(first, "null"), contains("token 2 of the document: a log-probability is NaN or null"));
  REQUIRE_THAT(lie(first, "0.01"), contains("a log-probability is 0.01; none is above 0"));
  REQUIRE_THAT(lie(first, "0.0005"), contains("add up to"));
  REQUIRE_THAT(lie("\"prompt_token_ids\":[3", "\"prompt_token_ids\":[7"),
               contains("the server read token 7; 3 was sent"));
  REQUIRE_THAT(lie("\"prompt_token_ids\":[3,", "\"prompt_token_ids\":["),
               contains("the server read 7 tokens; 8 were sent"));
  REQUIRE_THAT(lie("[null,", "[null,null,"), contains("there are 9 entries of prompt_logprobs; 8 tokens were sent"));
  REQUIRE_THAT(lie("prompt_logprobs", "something_else"), contains("this server does not score prompts"));
  REQUIRE_THAT(lie("\"choices\":[{", "\"choices\":[{},{"), contains("there are 2 choices; one was asked for"));
  REQUIRE_THAT(lie("choices", "Choices"), contains("choices is missing"));
  REQUIRE_THAT(lie("{\"logprob\":", "{\"log\":"), contains("logprob is missing"));
  // The echo is missing in older versions: then each position must hold the token that was sent.
  std::string body = replaced(teacher.vllm_body(document.ids, 3), "prompt_token_ids", "other");
  ScoredDocument other = document;  // ends with a token that is neither the one that was sent nor among the best 3
  const Ids rarest = FormulaTeacher::order(teacher.log_probs(std::span(document.ids).first(7)));
  other.ids.back() = rarest.back() != document.ids.back() ? rarest.back() : rarest[15];
  const RemoteNeeds three = needs_of(RemoteWant::top_k, 3), none = needs_of(RemoteWant::sampled);
  REQUIRE_THAT(refusal([&] { read_vllm(body, other, three, "s"); }),
               contains(concat("token 7 of the document: token ", other.ids.back(), " was sent")));
  // Fewer tokens than were asked for, and one that comes twice.
  REQUIRE_THAT(
      refusal([&] { read_vllm(teacher.vllm_body(document.ids, 3), document, needs_of(RemoteWant::top_k, 5), "s"); }),
      contains("were asked for"));
  body = teacher.sglang_body(document.ids, 1, 2);
  REQUIRE_THAT(refusal([&] { read_sglang(replaced(body, ",4,null]", ",5,null]"), document, none, "s"); }),
               contains("the server read token 5; 4 was sent"));
  REQUIRE_THAT(
      refusal([&] { read_sglang(replaced(body, "\"prompt_tokens\":8", "\"prompt_tokens\":9"), document, none, "s"); }),
      contains("the server read 9 tokens; 8 were sent"));
  REQUIRE_THAT(refusal([&] {
                 read_sglang(replaced(body, "input_top_logprobs", "x"), document, needs_of(RemoteWant::top_k, 2), "s");
               }),
               contains("input_top_logprobs is missing"));
  REQUIRE_THAT(refusal([&] {
                 read_llama_cpp(teacher.llama_cpp_body({3, 1}, 1), document, 3, none, "s");
               }),
               contains("the server read 2 tokens; 7 were sent"));
  // A token that an engine gives no probability cannot be a sampled one.
  const std::vector<double> p = teacher.log_probs(std::span(document.ids).first(2));
  REQUIRE_THAT(lie(FormulaTeacher::number(p[4]), "-9999.0", 0), contains("token 4 has no probability"));
  // No JSON: transport may have cut the answer, so that the request is sent again.
  REQUIRE_THROWS_AS(read_vllm("{\"choices\":[", document, none, "s"), UnreadableAnswer);
  REQUIRE_THROWS_AS(read_kdlib("12345678abc", std::span(&document, 1), none, "s"), UnreadableAnswer);
}

TEST_CASE("batches become documents with rows, and positions of their own are refused", "[remote]") {
  TokenBatch batch;
  batch.append(Ids{1, 2, 3, 4}, std::vector<float>{0, 1, 1, 0});
  batch.append(Ids{5, 6}, std::vector<float>{0, 0});
  batch.append(Ids{7, 8, 9});
  const std::vector<ScoredDocument> documents = scored_documents(batch);
  REQUIRE(documents.size() == 2);
  REQUIRE(documents[0].rows == std::vector<std::int64_t>{1, 2});
  REQUIRE(documents[1].ids == Ids{7, 8, 9});
  REQUIRE(documents[1].rows == std::vector<std::int64_t>{0, 1});
  REQUIRE(scored_hash(documents) != scored_hash(std::span(documents).first(1)));
  batch.positions = {0, 1, 2, 3, 0, 1, 5, 6, 7};
  REQUIRE_THAT(refusal([&] { scored_documents(batch); }), contains("is at position 5"));
}

TEST_CASE("settings of remote teachers are checked by name", "[remote]") {
  const auto problem = [](RemoteTeacherSettings s) { return refusal([&] { check_remote_settings(s); }); };
  REQUIRE_THAT(problem({}), contains("urls is empty"));
  REQUIRE_THAT(problem({.urls = {"10.0.0.5:8000"}}), contains("must start with http:// or https://"));
  REQUIRE_THAT(problem({.urls = {"http://h:1/v1"}}), contains("without a path"));
  REQUIRE_THAT(problem({.urls = {"http://me:secret@h:1"}}), contains("name the key's variable"));
  REQUIRE_THAT(problem({.urls = {"http://:80"}}), contains("it names no host"));
  REQUIRE_THAT(problem({.urls = {"http://h"}, .top_k = 0}), contains("top_k is 0"));
  REQUIRE_THAT(problem({.urls = {"http://h"}, .in_flight = 0}), contains("in_flight is 0"));
  REQUIRE_THAT(problem({.urls = {"http://h"}, .attempts = 0}), contains("attempts is 0"));
  REQUIRE(problem({.urls = {"http://h", "https://[::1]:8000"}}) == "nothing was refused");
}
