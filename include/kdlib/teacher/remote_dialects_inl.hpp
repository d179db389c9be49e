// SPDX-License-Identifier: Apache-2.0
// Bodies of remote_answers.hpp: answers of vLLM, SGLang, llama.cpp and `serve --teacher`.
#ifndef KDLIB_TEACHER_REMOTE_DIALECTS_INL_HPP
#define KDLIB_TEACHER_REMOTE_DIALECTS_INL_HPP

#include <algorithm>
#include <charconv>

#include "kdlib/io/json.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/teacher/remote_answers.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The answer as JSON.
KDLIB_FUNC Json read_answer(const std::string& body, const std::string& where) {
  try {
    return Json::parse(plain_json(body), "answer");
  } catch (const FormatError& error) {
    throw UnreadableAnswer(concat("[RemoteTeacher] ", where, ": ", error.what()));
  }
}

/// Runs `read`: what it does not find in the answer is the server's fault.
template <class F>
RemoteRows read_checked(const std::string& where, F&& read) {
  try {
    return read();
  } catch (const FormatError& error) {
    throw RemoteError(
        concat("[RemoteTeacher] ", where, ": ", error.what(), "; is this the right --teacher-api for the server?"),
        200);
  }
}

/// The ids that an answer says it is about.
KDLIB_FUNC void check_echo(const RowChecker& checker, const Json& echoed, const ScoredDocument& document) {
  if (echoed.size() != document.ids.size())
    checker.refuse(concat("the server read ", echoed.size(), " tokens; ", document.ids.size(), " were sent"));
  for (std::size_t i = 0; i < document.ids.size(); ++i)
    if (echoed[i].as_int() != document.ids[i])
      checker.refuse(static_cast<std::int64_t>(i), concat("the server read token ", echoed[i].as_int(), "; ",
                                                          document.ids[i], " was sent (another tokenizer?)"));
}

/// One position of vLLM's prompt_logprobs: {"785": {"logprob": -0.7, "rank": 1, ...}, ...}.
KDLIB_FUNC std::vector<RemoteCandidate> read_position(const RowChecker& checker, const Json& entry,
                                                      std::int64_t position) {
  std::vector<RemoteCandidate> list;
  if (!entry.is_object()) checker.refuse(position, "its entry is missing");
  for (const auto& [key, value] : entry.members()) {
    RemoteCandidate c;
    const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), c.id);
    if (problem != std::errc() || end != key.data() + key.size())
      checker.refuse(position, concat("'", printable(key), "' is no token id (return_tokens_as_token_ids?)"));
    c.log_prob = number_or_nan(value.at("logprob"));
    c.rank = value.int_or("rank", 0);
    list.push_back(c);
  }
  return list;
}

KDLIB_FUNC double log_prob_of(const std::vector<RemoteCandidate>& list, std::int32_t id) {
  for (const RemoteCandidate& c : list)
    if (c.id == id) return c.log_prob;
  return std::numeric_limits<double>::quiet_NaN();
}

/// A triplet of SGLang: [logprob, id, text or null].
KDLIB_FUNC RemoteCandidate read_triplet(const Json& entry) { return {entry[1].as_int(), number_or_nan(entry[0]), 0}; }

/// The tensor of an answer, with the extents that were asked for.
KDLIB_FUNC const TensorInfo& answer_tensor(const SafetensorsHeader& file, const RowChecker& checker, const char* name,
                                           const std::vector<std::uint64_t>& extents) {
  for (const TensorInfo& info : file.tensors) {
    if (info.name != name) continue;
    if (info.extents != extents)
      checker.refuse(concat("'", name, "' is ", info.text(), ", which is not what was asked"));
    return info;
  }
  checker.refuse(concat("the answer has no tensor '", name, "'"));
}

KDLIB_FUNC void check_metadata(const SafetensorsHeader& file, const RowChecker& checker, const char* key,
                               const std::string& value, const char* what) {
  for (const auto& [name, said] : file.metadata)
    if (name == key) {
      if (said != value) checker.refuse(concat(what, " (", key, " ", printable(said), ", not ", value, ")"));
      return;
    }
  checker.refuse(concat("the answer does not say its ", key));
}

}  // namespace detail

KDLIB_FUNC RemoteRows read_vllm(const std::string& body, const ScoredDocument& document, const RemoteNeeds& needs,
                                const std::string& where) {
  const Json json = detail::read_answer(body, where);
  return detail::read_checked(where, [&] {
    detail::RowChecker checker(needs, where, static_cast<std::int64_t>(document.rows.size()));
    const Json choices = json.at("choices");
    if (choices.size() != 1) checker.refuse(concat("there are ", choices.size(), " choices; one was asked for"));
    const auto list = choices[0].find_set("prompt_logprobs");
    if (!list)
      checker.refuse(
          "the answer has no prompt_logprobs: this server does not score prompts (llama.cpp's leaves such "
          "requests aside; serve --teacher FILE.gguf scores)");
    if (const auto ids = choices[0].find_set("prompt_token_ids")) detail::check_echo(checker, *ids, document);
    if (list->size() != document.ids.size())
      checker.refuse(concat("there are ", list->size(), " entries of prompt_logprobs; ", document.ids.size(),
                            " tokens were sent"));
    std::size_t row = 0;
    for (std::size_t t = 1; t < document.ids.size(); ++t) {
      const auto position = static_cast<std::int64_t>(t);
      const bool counts = row < document.rows.size() && document.rows[row] == position - 1;
      std::vector<detail::RemoteCandidate> entry = detail::read_position(checker, (*list)[t], position);
      const bool echoed =
          std::any_of(entry.begin(), entry.end(), [&](const auto& c) { return c.id == document.ids[t]; });
      if (!echoed)
        checker.refuse(position, concat("token ", document.ids[t], " was sent, and its entry does not have it"));
      if (!counts) continue;
      const double label = detail::log_prob_of(entry, document.ids[t]);
      checker.add(static_cast<std::int64_t>(row++), position, label, document.ids[t], std::move(entry));
    }
    return checker.take();
  });
}

KDLIB_FUNC RemoteRows read_sglang(const std::string& body, const ScoredDocument& document, const RemoteNeeds& needs,
                                  const std::string& where) {
  const Json json = detail::read_answer(body, where);
  return detail::read_checked(where, [&] {
    detail::RowChecker checker(needs, where, static_cast<std::int64_t>(document.rows.size()));
    const Json meta = json.at("meta_info"), labels = meta.at("input_token_logprobs");
    const auto first = static_cast<std::size_t>(document.rows.front()) + 1;  // the first token that counts
    const std::size_t wanted = document.ids.size() - first;
    if (const auto read = meta.find_set("prompt_tokens");
        read && read->as_int() != static_cast<std::int64_t>(document.ids.size()))
      checker.refuse(concat("the server read ", read->as_int(), " tokens; ", document.ids.size(), " were sent"));
    if (labels.size() < wanted || labels.size() > document.ids.size())
      checker.refuse(concat("there are ", labels.size(), " entries of input_token_logprobs; at least ", wanted,
                            " and at most ", document.ids.size(), " were asked for"));
    const bool many = needs.want == RemoteWant::top_k;
    const Json best = many ? meta.at("input_top_logprobs") : Json();
    if (many && best.size() < wanted)
      checker.refuse(concat("there are ", best.size(), " entries of input_top_logprobs; ", wanted, " were asked for"));
    std::size_t row = 0;
    for (std::size_t j = 0; j < wanted; ++j) {
      const auto position = static_cast<std::int64_t>(first + j);
      const std::int32_t actual = document.ids[first + j];
      const detail::RemoteCandidate label = detail::read_triplet(labels[labels.size() - wanted + j]);
      if (label.id != actual)
        checker.refuse(position, concat("the server read token ", label.id, "; ", actual, " was sent"));
      if (row >= document.rows.size() || document.rows[row] != position - 1) continue;
      std::vector<detail::RemoteCandidate> list;
      if (many)
        for (const Json& entry : best[best.size() - wanted + j]) list.push_back(detail::read_triplet(entry));
      checker.add(static_cast<std::int64_t>(row++), position, label.log_prob, actual, std::move(list));
    }
    return checker.take();
  });
}

KDLIB_FUNC RemoteRows read_llama_cpp(const std::string& body, const ScoredDocument& document, std::size_t row,
                                     const RemoteNeeds& needs, const std::string& where) {
  const Json json = detail::read_answer(body, where);
  return detail::read_checked(where, [&] {
    detail::RowChecker checker(needs, where, 1);
    const std::int64_t position = document.rows[row] + 1;
    if (const auto read = json.find_set("tokens_evaluated"); read && read->as_int() != position)
      checker.refuse(position, concat("the server read ", read->as_int(), " tokens; ", position, " were sent"));
    const Json found = json.at("completion_probabilities");
    if (found.size() != 1) checker.refuse(position, concat("there are ", found.size(), " entries; 1 was asked for"));
    std::vector<detail::RemoteCandidate> list;
    for (const Json& entry : found[0].at("top_logprobs"))
      list.push_back({entry.at("id").as_int(), detail::number_or_nan(entry.at("logprob")), 0});
    const std::int32_t actual = document.ids[static_cast<std::size_t>(position)];
    const double label = detail::log_prob_of(list, actual);
    if (needs.want == RemoteWant::sampled && std::isnan(label))
      checker.refuse(position, concat("token ", actual, " is not among the ", list.size(),
                                      " most probable ones, and "
                                      "llama.cpp's server says nothing of others; use serve --teacher FILE.gguf"));
    checker.add(0, position, label, actual, std::move(list));
    return checker.take();
  });
}

KDLIB_FUNC RemoteRows read_kdlib(const std::string& body, std::span<const ScoredDocument> documents,
                                 const RemoteNeeds& needs, const std::string& where) {
  SafetensorsHeader file;
  try {
    file = parse_safetensors(std::as_bytes(std::span(body)), "answer");
  } catch (const FormatError& error) {
    throw UnreadableAnswer(concat("[RemoteTeacher] ", where, ": ", error.what()));
  }
  std::uint64_t rows = 0;
  for (const ScoredDocument& document : documents) rows += document.rows.size();
  detail::RowChecker checker(needs, where, static_cast<std::int64_t>(rows));
  detail::check_metadata(file, checker, "documents", scored_hash(documents), "the answer is about other tokens");
  detail::check_metadata(file, checker, "model", needs.model_hash, "the server has another teacher than at the start");
  std::vector<std::int64_t> positions;  // of the tokens that the rows are about
  for (const ScoredDocument& document : documents)
    for (const std::int64_t row : document.rows) positions.push_back(row + 1);
  const auto K = static_cast<std::uint64_t>(needs.top_k), H = static_cast<std::uint64_t>(needs.hidden_size);
  if (needs.want == RemoteWant::hidden) {
    RemoteRows out = checker.take();
    out.hidden = read_as<float>(detail::answer_tensor(file, checker, "hidden", {rows, H}));
    for (std::size_t i = 0; i < out.hidden.size(); ++i)
      if (!std::isfinite(out.hidden[i])) checker.refuse(positions[i / H], "its hidden state is not finite");
    return out;
  }
  if (needs.want == RemoteWant::sampled) {
    const auto values = read_as<float>(detail::answer_tensor(file, checker, "label", {rows}));
    for (std::size_t r = 0; r < rows; ++r)
      checker.add(static_cast<std::int64_t>(r), positions[r], static_cast<double>(values[r]), 0, {});
    return checker.take();
  }
  const auto ids = read_as<std::int32_t>(detail::answer_tensor(file, checker, "ids", {rows, K}));
  const auto log_probs = read_as<float>(detail::answer_tensor(file, checker, "log_probs", {rows, K}));
  const auto tails = read_as<float>(detail::answer_tensor(file, checker, "log_tail", {rows}));
  const auto labels = read_as<float>(detail::answer_tensor(file, checker, "label", {rows}));
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<detail::RemoteCandidate> list;
    for (std::size_t k = r * K; k < (r + 1) * K; ++k)
      list.push_back({ids[k], static_cast<double>(log_probs[k]), static_cast<std::int64_t>(k)});
    checker.add(static_cast<std::int64_t>(r), positions[r], static_cast<double>(labels[r]), 0, std::move(list));
    checker.set_tail(static_cast<std::int64_t>(r), positions[r], static_cast<double>(tails[r]));
  }
  return checker.take();
}

KDLIB_NAMESPACE_END

#endif
