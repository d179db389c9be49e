// SPDX-License-Identifier: Apache-2.0
// A teacher that is a formula, and its answers as vLLM, SGLang and llama.cpp's server write them.
#ifndef KDLIB_TESTS_SUPPORT_FAKE_TEACHER_HPP
#define KDLIB_TESTS_SUPPORT_FAKE_TEACHER_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kdlib/core/rng.hpp"
#include "kdlib/io/json.hpp"
#include "support/fake_teacher_server.hpp"

namespace kdlib_tests {

/// log p(next token | prefix) over `vocabulary` tokens: logits are random numbers of the prefix.
class FormulaTeacher {
 public:
  using Ids = std::vector<std::int32_t>;
  explicit FormulaTeacher(std::int64_t vocabulary = 17) : vocabulary_(vocabulary) {}

  std::vector<double> log_probs(std::span<const std::int32_t> prefix) const {
    std::uint32_t hash = 2166136261u;
    for (const std::int32_t id : prefix) hash = (hash ^ static_cast<std::uint32_t>(id)) * 16777619u;
    const kdlib::Rng rng(1, kdlib::RngPurpose::test, hash);
    std::vector<double> z(static_cast<std::size_t>(vocabulary_));
    double sum = 0;
    for (std::size_t v = 0; v < z.size(); ++v) sum += std::exp(z[v] = 4 * rng.uniform(static_cast<std::uint32_t>(v)));
    for (double& x : z) x -= std::log(sum);
    return z;
  }
  /// Tokens from the most probable one on.
  static Ids order(const std::vector<double>& log_probs) {
    Ids ids(log_probs.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::sort(ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) {
      return log_probs[static_cast<std::size_t>(a)] > log_probs[static_cast<std::size_t>(b)];
    });
    return ids;
  }

  /// The entry of vLLM's prompt_logprobs for token t of ids: K most probable tokens, and the actual one.
  std::string vllm_entry(const Ids& ids, std::size_t t, std::int64_t k) const {
    const std::vector<double> p = log_probs(std::span(ids).first(t));
    const Ids best = order(p);
    std::string out;
    for (std::size_t rank = best.size(); rank-- > 0;) {  // the least probable first: order means nothing
      const std::int32_t id = best[rank];
      if (static_cast<std::int64_t>(rank) >= k && id != ids[t]) continue;
      out += (out.empty() ? "\"" : ",\"") + std::to_string(id) +
             "\":{\"logprob\":" + number(p[static_cast<std::size_t>(id)]) + ",\"rank\":" + std::to_string(rank + 1) +
             ",\"decoded_token\":\"\\u00e9\\\"NaN\"}";
    }
    return "{" + out + "}";
  }
  std::string vllm_body(const Ids& ids, std::int64_t k) const {
    std::string list = "null", echo;
    for (std::size_t t = 1; t < ids.size(); ++t) list += "," + vllm_entry(ids, t, k);
    for (const std::int32_t id : ids) echo += (echo.empty() ? "" : ",") + std::to_string(id);
    return R"({"id":"cmpl-1","object":"text_completion","model":"toy","choices":[{"index":0,"text":"x",)"
           R"("finish_reason":"length","prompt_logprobs":[)" +
           list + "],\"prompt_token_ids\":[" + echo +
           "],\"token_ids\":[1]}],\"usage\":{\"prompt_tokens\":" + std::to_string(ids.size()) + "}}";
  }
  std::string sglang_body(const Ids& ids, std::size_t start, std::int64_t k) const {
    std::string labels = "[null," + std::to_string(ids[start]) + ",null]", best = "null";
    for (std::size_t t = start + 1; t < ids.size(); ++t) {
      const std::vector<double> p = log_probs(std::span(ids).first(t));
      const Ids sorted = order(p);
      labels += ",[" + number(p[static_cast<std::size_t>(ids[t])]) + "," + std::to_string(ids[t]) + ",null]";
      std::string top;
      for (std::int64_t i = 0; i < k; ++i) {
        const std::int32_t id = sorted[static_cast<std::size_t>(i)];
        top += (i == 0 ? "[" : ",[") + number(p[static_cast<std::size_t>(id)]) + "," + std::to_string(id) + ",null]";
      }
      best += ",[" + top + "]";
    }
    return R"({"text":"","output_ids":[],"meta_info":{"prompt_tokens":)" + std::to_string(ids.size()) +
           ",\"input_token_logprobs\":[" + labels + "],\"input_top_logprobs\":[" + best + "]}}";
  }
  std::string llama_cpp_body(const Ids& prefix, std::int64_t k) const {
    const std::vector<double> p = log_probs(prefix);
    const Ids sorted = order(p);
    std::string top;
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int32_t id = sorted[static_cast<std::size_t>(i)];
      top += (i == 0 ? "{\"id\":" : ",{\"id\":") + std::to_string(id) +
             ",\"token\":\"x\",\"logprob\":" + number(p[static_cast<std::size_t>(id)]) + "}";
    }
    return R"({"content":"x","tokens":[1],"stop":true,"tokens_evaluated":)" + std::to_string(prefix.size()) +
           ",\"completion_probabilities\":[{\"id\":1,\"logprob\":-1.0,\"top_logprobs\":[" + top + "]}]}";
  }

  /// What such a server answers.
  FakeReply answer(const FakeRequest& request) const {
    const kdlib::Json json = request.body.empty() ? kdlib::Json() : kdlib::Json::parse(request.body, "request");
    if (request.path == "/v1/models") return {200, R"({"object":"list","data":[{"id":"toy","max_model_len":64}]})"};
    if (request.path == "/v1/completions")
      return {200, vllm_body(ids_of(json.at("prompt")), json.at("prompt_logprobs").as_int())};
    if (request.path == "/generate")
      return {200,
              sglang_body(ids_of(json.at("input_ids")), static_cast<std::size_t>(json.at("logprob_start_len").as_int()),
                          json.at("top_logprobs_num").as_int())};
    if (request.path == "/completion")
      return {200, llama_cpp_body(ids_of(json.at("prompt")), json.at("n_probs").as_int())};
    return {404, R"({"error":{"message":"no such place"}})"};
  }

  static Ids ids_of(const kdlib::Json& list) {
    Ids out;
    for (const kdlib::Json& id : list) out.push_back(static_cast<std::int32_t>(id.as_int()));
    return out;
  }
  static std::string number(double x) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", x);
    return text;
  }

 private:
  std::int64_t vocabulary_;
};

}  // namespace kdlib_tests

#endif
