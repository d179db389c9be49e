// SPDX-License-Identifier: Apache-2.0
// Bodies of compare.hpp.
#ifndef KDLIB_TOOLS_SERVICE_COMPARE_INL_HPP
#define KDLIB_TOOLS_SERVICE_COMPARE_INL_HPP

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/child_process.hpp"
#include "kdlib/tools/service/compare.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// What one model wrote.
struct ComparedAnswer {
  std::vector<std::int64_t> prompt_ids, ids;
  std::vector<std::string> tokens;
  std::string text, problem;
  bool stopped = false;
  double prompt_speed = 0, speed = 0;  // tokens a second
  std::vector<std::pair<std::string, std::vector<double>>> log_probs;
};

KDLIB_TOOLS_FUNC std::string child_sentence(const CapturedChild& child) {
  if (child.timed_out) return "it took longer than its time limit";
  const std::size_t at = child.error.rfind("error: ");
  if (at == std::string::npos) return concat("it ended with status ", child.status);
  return replace_invalid_utf8(child.error.substr(at + 7, child.error.find('\n', at) - at - 7));
}

KDLIB_TOOLS_FUNC std::vector<std::string> model_words(const ComparedModel& m) {
  std::vector<std::string> words{"--model=" + m.model};
  if (!m.adapter.empty()) words.insert(words.end(), {"--adapter=" + m.adapter, "--merge"});
  return words;
}

KDLIB_TOOLS_FUNC std::vector<std::int64_t> integers(const Json& list) {
  std::vector<std::int64_t> out;
  for (const Json& element : list) out.push_back(element.as_int());
  return out;
}

KDLIB_TOOLS_FUNC double number_behind(const std::string& text, const char* word) {
  std::size_t at = text.rfind(word);
  if (at == std::string::npos) return 0;
  at = text.find(", ", at);
  return at == std::string::npos ? 0 : std::strtod(text.c_str() + at + 2, nullptr);
}

KDLIB_TOOLS_FUNC void write_answer(const CompareRequest& r, const ComparedModel& model, ComparedAnswer& out) {
  std::vector<std::string> words = model_words(model);
  words.insert(words.end(), {"--prompts=" + join_path(r.folder, "prompt.jsonl"), "--json"});
  if (r.chat) words.push_back("--chat");
  words.insert(words.end(), r.sampler.begin(), r.sampler.end());
  const CapturedChild child = run_captured(join_path(r.programs, "generate"), words, 600);
  if (child.status != 0) {
    out.problem = child_sentence(child);
    return;
  }
  const Json answer = Json::parse(child.out.substr(0, child.out.find('\n')), "generate");
  out.prompt_ids = integers(answer.at("prompt_ids"));
  out.ids = integers(answer.at("ids"));
  out.text = answer.string_or("text", "");
  out.stopped = answer.bool_or("stopped", false);
  out.prompt_speed = number_behind(child.error, "prompt:");
  out.speed = number_behind(child.error, "decoding:");
}

/// Where the tokenizer of a model lies; empty where it has none. The folder of a run has it in base/ or model/.
KDLIB_TOOLS_FUNC std::string tokenizer_of(const std::string& model) {
  if (is_regular_file(model)) return model;
  for (const char* below : {"tokenizer.json", "tokenizer.model", "base/tokenizer.json", "base/tokenizer.model",
                            "model/tokenizer.json", "model/tokenizer.model"})
    if (const std::string path = join_path(model, below); path_exists(path)) return parent_path(path);
  return {};
}

/// The text of each token; ids in brackets where no tokenizer is found. A run that keeps none writes with the tokenizer
/// of another model here that reads the prompt as the same ids.
KDLIB_TOOLS_FUNC void name_tokens(const CompareRequest& r, std::vector<ComparedAnswer>& all, std::size_t which) {
  ComparedAnswer& out = all[which];
  for (const std::int64_t id : out.ids) out.tokens.push_back(concat("[", id, "]"));
  std::string tokenizer = tokenizer_of(r.models[which].model);
  for (std::size_t m = 0; m < all.size() && tokenizer.empty(); ++m)
    if (all[m].prompt_ids == out.prompt_ids) tokenizer = tokenizer_of(r.models[m].model);
  if (out.ids.empty() || tokenizer.empty()) return;
  // A decoder takes the space from the front of a text: what a token adds is read behind the token before it.
  std::string lines;
  for (std::size_t i = 0; i < out.ids.size(); ++i) {
    lines += concat("[", out.ids[i], "]\n");
    lines += i == 0 ? concat("[", out.ids[0], "]\n") : concat("[", out.ids[i - 1], ",", out.ids[i], "]\n");
  }
  const std::string file = join_path(r.folder, "tokens.jsonl");
  write_file_atomically(file, lines);
  const CapturedChild child =
      run_captured(join_path(r.programs, "tokenize"), {"--tokenizer=" + tokenizer, "--decode"}, 120, file);
  if (child.status != 0) return;
  std::vector<std::string> texts;
  for (std::size_t begin = 0, end; (end = child.out.find('\n', begin)) != std::string::npos; begin = end + 1)
    texts.push_back(Json::parse(child.out.substr(begin, end - begin), "tokenize").string_or("text", ""));
  if (texts.size() != 2 * out.ids.size()) return;
  for (std::size_t i = 0; i < out.tokens.size(); ++i) {
    const std::string &alone = texts[2 * i], &pair = texts[2 * i + 1], before = i == 0 ? "" : texts[2 * i - 2];
    const bool continues = pair.compare(0, before.size(), before) == 0;  // not where characters are divided
    out.tokens[i] = continues ? pair.substr(before.size()) : alone;
  }
}

/// Log-probabilities of every answer under one model.
KDLIB_TOOLS_FUNC void score_answers(const CompareRequest& r, const ComparedModel& model,
                                    std::vector<ComparedAnswer>& all) {
  const std::string in = join_path(r.folder, "texts.jsonl"), out = join_path(r.folder, "scores.jsonl");
  std::vector<ComparedAnswer*> asked;
  std::string lines;
  for (ComparedAnswer& a : all) {
    if (a.ids.empty() || !a.problem.empty()) continue;
    std::vector<std::int64_t> ids = a.prompt_ids;
    ids.insert(ids.end(), a.ids.begin(), a.ids.end());
    JsonWriter json;
    lines += json.begin_object().member("ids", ids).end_object().text() + "\n";
    asked.push_back(&a);
  }
  if (asked.empty()) return;
  write_file_atomically(in, lines);
  std::vector<std::string> words = model_words(model);
  words.insert(words.end(), {"--input=" + in, "--out=" + out});
  const CapturedChild child = run_captured(join_path(r.programs, "score"), words, 600);
  require<Error>(child.status == 0, "score of ", model.name, ": ", child_sentence(child));
  const std::string text = read_file(out);
  std::size_t begin = 0;
  for (ComparedAnswer* a : asked) {
    const std::size_t end = text.find('\n', begin);
    const Json line = Json::parse(text.substr(begin, end - begin), "score");
    begin = end + 1;
    std::vector<double> log_probs;
    const Json values = line.at("log_probs");
    const std::size_t first = a->prompt_ids.empty() ? 0 : a->prompt_ids.size() - 1;
    for (std::size_t i = first; i < values.size(); ++i) log_probs.push_back(values[i].as_double());
    a->log_probs.emplace_back(model.name, std::move(log_probs));
  }
}

KDLIB_TOOLS_FUNC void write_compared(JsonWriter& json, const ComparedModel& model, const ComparedAnswer& a) {
  json.begin_object()
      .member("name", model.name)
      .member("model_path", model.model)
      .member("adapter_path", model.adapter);
  json.member("problem", a.problem).member("text", replace_invalid_utf8(a.text)).member("stopped", a.stopped);
  json.member("prompt_tokens", a.prompt_ids.size()).member("prompt_tokens_per_second", a.prompt_speed);
  json.member("tokens_per_second", a.speed).key("ids").value(a.ids).key("tokens").begin_array();
  for (const std::string& token : a.tokens) json.value(replace_invalid_utf8(token));
  json.end_array().key("log_probs").begin_object();
  for (const auto& [name, values] : a.log_probs) {
    json.key(name).begin_array();
    for (const double v : values) json.value(v);
    json.end_array();
  }
  json.end_object().end_object();
}

}  // namespace detail

KDLIB_TOOLS_FUNC std::string compare_models(const CompareRequest& r) {
  make_directories(r.folder);
  write_file_atomically(join_path(r.folder, "prompt.jsonl"), r.prompt_line + "\n");
  std::vector<detail::ComparedAnswer> answers(r.models.size());
  for (std::size_t m = 0; m < r.models.size(); ++m) detail::write_answer(r, r.models[m], answers[m]);
  for (std::size_t m = 0; m < r.models.size(); ++m)
    if (answers[m].problem.empty()) detail::name_tokens(r, answers, m);
  for (std::size_t m = 0; m < r.models.size(); ++m) {
    try {
      if (answers[m].problem.empty()) detail::score_answers(r, r.models[m], answers);
    } catch (const Error& error) {
      answers[m].problem = replace_invalid_utf8(error.what());
    }
  }
  JsonWriter json(JsonStyle{0, NonFinite::null});
  json.begin_array();
  for (std::size_t m = 0; m < r.models.size(); ++m) detail::write_compared(json, r.models[m], answers[m]);
  remove_tree(r.folder);
  return json.end_array().text();
}

KDLIB_TOOLS_FUNC std::pair<std::string, std::function<void()>> Comparisons::add(CompareRequest request) {
  const std::lock_guard<std::mutex> hold(mutex_);
  if (std::any_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->answer.empty(); }))
    throw ServiceProblem(429, "another comparison is running; try again when it has ended");
  if (jobs_.size() >= 32) jobs_.erase(jobs_.begin());
  auto job = std::make_shared<Job>();
  job->id = random_hex(8);
  jobs_.push_back(job);
  request.folder = join_path(request.folder, job->id);
  const std::string id = job->id;
  return {id, [this, job, r = std::move(request)] {
            JsonWriter json;
            json.begin_object().member("id", job->id);
            try {
              const std::string models = compare_models(r);
              json.member("state", "done").member("reference", r.reference).key("models").raw(models);
            } catch (const std::exception& error) {
              json.member("state", "failed").member("detail", replace_invalid_utf8(error.what()));
            }
            const std::lock_guard<std::mutex> hold_end(mutex_);
            job->answer = json.end_object().text();
          }};
}

KDLIB_TOOLS_FUNC std::string Comparisons::json(const std::string& id) const {
  const std::lock_guard<std::mutex> hold(mutex_);
  for (const auto& job : jobs_) {
    if (job->id != id) continue;
    if (!job->answer.empty()) return job->answer;
    JsonWriter json;
    return json.begin_object().member("id", id).member("state", "running").end_object().text();
  }
  throw ServiceProblem(404, "there is no comparison '" + replace_invalid_utf8(id) + "'");
}

KDLIB_NAMESPACE_END

#endif
