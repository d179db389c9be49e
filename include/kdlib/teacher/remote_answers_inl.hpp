// SPDX-License-Identifier: Apache-2.0
// Bodies of remote_answers.hpp: requests, and what all answers are checked for. remote_dialects_inl.hpp reads them.
#ifndef KDLIB_TEACHER_REMOTE_ANSWERS_INL_HPP
#define KDLIB_TEACHER_REMOTE_ANSWERS_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "kdlib/core/fields.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/teacher/remote_answers.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A token and its log-probability as a server lists them.
struct RemoteCandidate {
  std::int64_t id = 0;
  double log_prob = 0;
  std::int64_t rank = 0;  // 1-based; 0: not said
};

/// A number that JSON may hold as null: NaN.
KDLIB_FUNC double number_or_nan(const Json& value) {
  return value.is_number() ? value.as_double() : std::numeric_limits<double>::quiet_NaN();
}

/// Checks log-probabilities and writes them into rows.
class RowChecker {
 public:
  RowChecker(const RemoteNeeds& needs, const std::string& where, std::int64_t rows) : needs_(needs), where_(where) {
    out_.resize(rows, needs);
  }

  /// A log-probability as it is kept: at most 0, or -infinity. `position` is that of the token in its document.
  double checked(double log_prob, std::int64_t position) const {
    if (!(log_prob <= 1e-3))  // NaN, too
      refuse(position, std::isnan(log_prob)
                           ? std::string("a log-probability is NaN or null")
                           : concat("a log-probability is ", setting_text(log_prob), "; none is above 0"));
    return log_prob <= -9999 ? -std::numeric_limits<double>::infinity() : std::min(log_prob, 0.0);
  }

  /// `label`: what the answer says of the token that was sent; NaN where it does not.
  void add(std::int64_t row, std::int64_t position, double label, std::int32_t actual,
           std::vector<RemoteCandidate> list) {
    const auto r = static_cast<std::size_t>(row);
    if (needs_.want == RemoteWant::sampled) {
      const double kept = checked(label, position);
      if (std::isinf(kept)) refuse(position, concat("token ", actual, " has no probability"));
      out_.label[r] = static_cast<float>(kept);
      return;
    }
    for (RemoteCandidate& c : list) c.log_prob = checked(c.log_prob, position);
    out_.label[r] = static_cast<float>(std::isnan(label) ? label : checked(label, position));
    std::stable_sort(list.begin(), list.end(), [](const RemoteCandidate& a, const RemoteCandidate& b) {
      return a.rank != b.rank ? a.rank < b.rank : a.log_prob != b.log_prob ? a.log_prob > b.log_prob : a.id < b.id;
    });
    const auto most = static_cast<std::size_t>(needs_.top_k);
    // K + 1: the actual token stands beside the K most probable ones. By its rank the actual token is the last.
    if (list.size() == most + 1)
      std::erase_if(list, [&, last = list.back().id](const RemoteCandidate& c) { return c.id == last; });
    if (list.size() != most) refuse(position, concat("there are ", list.size(), " tokens; ", most, " were asked for"));
    put(r, position, list);
  }

  /// The server's own sum over all other tokens, where it gives one.
  void set_tail(std::int64_t row, std::int64_t position, double log_tail) {
    float& kept = out_.log_tail[static_cast<std::size_t>(row)];
    if (!(std::abs(std::exp(log_tail) - std::exp(static_cast<double>(kept))) <= 1e-3))
      refuse(position, concat("the mass of all other tokens is said to be ", setting_text(std::exp(log_tail)),
                              "; the listed ones leave ", setting_text(std::exp(static_cast<double>(kept)))));
    kept = static_cast<float>(log_tail);
  }

  [[noreturn]] void refuse(std::int64_t position, const std::string& what) const {
    throw RemoteError(concat("[RemoteTeacher] ", where_, ": token ", position, " of the document: ", what), 200);
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw RemoteError(concat("[RemoteTeacher] ", where_, ": ", what), 200);
  }
  RemoteRows take() { return std::move(out_); }

 private:
  void put(std::size_t r, std::int64_t position, const std::vector<RemoteCandidate>& list) {
    double all = 0, kept = 0;
    const auto K = static_cast<std::size_t>(needs_.top_k);
    for (std::size_t k = 0; k < list.size(); ++k) {
      const double p = std::exp(list[k].log_prob);
      all += p;
      for (std::size_t j = 0; j < k; ++j)
        if (list[j].id == list[k].id) refuse(position, concat("token ", list[k].id, " comes twice"));
      if (list[k].id < 0) refuse(position, concat("there is a token ", list[k].id));
      if (p <= 0 || list[k].id >= needs_.vocabulary) continue;  // padding rows of the teacher's head
      kept += p;
      out_.ids[r * K + k] = static_cast<std::int32_t>(list[k].id);
      out_.log_probs[r * K + k] = static_cast<float>(list[k].log_prob);
    }
    if (all > 1.001)
      refuse(position, concat("the probabilities of ", list.size(), " tokens add up to ", setting_text(all)));
    out_.log_tail[r] = kept < 1 ? static_cast<float>(std::log1p(-kept)) : -std::numeric_limits<float>::infinity();
  }

  const RemoteNeeds& needs_;
  const std::string& where_;
  RemoteRows out_;
};

KDLIB_FUNC void append_ids(std::string& bytes, const ScoredDocument& document) {
  const auto add = [&bytes](const auto* data, std::size_t count) {
    bytes.append(reinterpret_cast<const char*>(data), count * sizeof *data);
  };
  const auto ids = static_cast<std::int64_t>(document.ids.size()),
             rows = static_cast<std::int64_t>(document.rows.size());
  add(&ids, 1);
  add(document.ids.data(), document.ids.size());
  add(&rows, 1);
  add(document.rows.data(), document.rows.size());
}

}  // namespace detail

KDLIB_FUNC void RemoteRows::resize(std::int64_t count, const RemoteNeeds& needs) {
  rows = count;
  const auto n = static_cast<std::size_t>(count), k = static_cast<std::size_t>(needs.top_k);
  if (needs.want != RemoteWant::hidden) label.resize(n);
  if (needs.want == RemoteWant::hidden) hidden.resize(n * static_cast<std::size_t>(needs.hidden_size));
  if (needs.want != RemoteWant::top_k) return;
  ids.assign(n * k, -1);
  log_probs.assign(n * k, 0.0f);
  log_tail.resize(n);
}

KDLIB_FUNC void RemoteRows::put(std::int64_t begin, const RemoteRows& part, const RemoteNeeds& needs) {
  const auto copy = [&](const auto& from, auto& to, std::int64_t width) {
    std::copy(from.begin(), from.end(), to.begin() + begin * width);
  };
  copy(part.label, label, 1);
  copy(part.ids, ids, needs.top_k);
  copy(part.log_probs, log_probs, needs.top_k);
  copy(part.log_tail, log_tail, 1);
  copy(part.hidden, hidden, needs.hidden_size);
}

KDLIB_FUNC std::vector<ScoredDocument> scored_documents(const TokenBatch& batch) {
  std::vector<ScoredDocument> out;
  const TokenBatch::Rows rows = batch.rows();
  std::size_t r = 0;
  for (std::int64_t b = 0; b < batch.documents(); ++b) {
    const std::int64_t begin = batch.offsets[static_cast<std::size_t>(b)], end = begin + batch.length(b);
    for (std::int64_t i = begin; i < end && !batch.positions.empty(); ++i)
      require<ConfigError>(batch.positions[static_cast<std::size_t>(i)] == i - begin, "[RemoteTeacher] ",
                           batch.place_of(i), " is at position ", batch.positions[static_cast<std::size_t>(i)],
                           "; servers know documents from position 0 on");
    ScoredDocument document;
    for (; r < rows.token.size() && rows.token[r] < end; ++r) document.rows.push_back(rows.token[r] - begin);
    if (document.rows.empty()) continue;
    document.ids.assign(batch.ids.begin() + begin, batch.ids.begin() + end);
    out.push_back(std::move(document));
  }
  return out;
}

KDLIB_FUNC std::string plain_json(std::string text) {
  std::string out;
  std::size_t kept = 0;
  bool quoted = false;
  const auto replace = [&](std::size_t at, std::size_t size, const char* by) {
    out.append(text, kept, at - kept).append(by);
    kept = at + size;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') ++i;
    else if (c == '"') quoted = !quoted;
    else if (!quoted && c == 'N' && text.compare(i, 3, "NaN") == 0) replace(i, 3, "null"), i += 2;
    else if (!quoted && c == 'I' && text.compare(i, 8, "Infinity") == 0) replace(i, 8, "1e308"), i += 7;
  }
  if (kept == 0) return text;
  out.append(text, kept, std::string::npos);
  return out;
}

KDLIB_FUNC HttpRequest vllm_request(const ScoredDocument& document, const RemoteNeeds& needs) {
  JsonWriter json;
  json.begin_object().member("model", needs.model).member("prompt", document.ids).member("max_tokens", 1);
  json.member("temperature", needs.temperature).member("stream", false).member("add_special_tokens", false);
  json.member("prompt_logprobs", needs.want == RemoteWant::top_k ? needs.top_k : 0);
  json.member("return_token_ids", true).end_object();
  return {"POST", "/v1/completions", json.text()};
}

KDLIB_FUNC HttpRequest sglang_request(const ScoredDocument& document, const RemoteNeeds& needs) {
  JsonWriter json;
  json.begin_object().member("input_ids", document.ids).key("sampling_params").begin_object();
  json.member("temperature", needs.temperature).member("max_new_tokens", 0).member("skip_special_tokens", false);
  json.end_object().member("return_logprob", true).member("logprob_start_len", document.rows.front());
  json.member("top_logprobs_num", needs.want == RemoteWant::top_k ? needs.top_k : 0);
  json.member("return_text_in_logprobs", false).member("stream", false).end_object();
  return {"POST", "/generate", json.text()};
}

KDLIB_FUNC HttpRequest llama_cpp_request(const ScoredDocument& document, std::size_t row, const RemoteNeeds& needs) {
  const std::span<const std::int32_t> prefix(document.ids.data(), static_cast<std::size_t>(document.rows[row]) + 1);
  JsonWriter json;
  json.begin_object().member("prompt", prefix).member("n_predict", 1).member("temperature", 1.0);
  json.member("n_probs", needs.top_k > 0 ? needs.top_k : 1).member("cache_prompt", true);
  json.key("samplers").begin_array().end_array().member("post_sampling_probs", false).member("return_tokens", true);
  json.member("stream", false).end_object();
  return {"POST", "/completion", json.text()};
}

KDLIB_FUNC HttpRequest kdlib_request(std::span<const ScoredDocument> documents, const RemoteNeeds& needs) {
  JsonWriter json;
  json.begin_object().key("documents").begin_array();
  for (const ScoredDocument& document : documents)
    json.begin_object().member("ids", document.ids).member("rows", document.rows).end_object();
  json.end_array().member("want", setting_text(needs.want));
  if (needs.want == RemoteWant::top_k) json.member("top_k", needs.top_k);
  json.member("dtype", setting_text(needs.precision)).end_object();
  return {"POST", "/v1/teacher/rows", json.text()};
}

KDLIB_FUNC std::string scored_hash(std::span<const ScoredDocument> documents) {
  std::string bytes;
  for (const ScoredDocument& document : documents) detail::append_ids(bytes, document);
  return Sha256().add(bytes).digest();
}

KDLIB_NAMESPACE_END

#include "kdlib/teacher/remote_dialects_inl.hpp"

#endif
