// SPDX-License-Identifier: Apache-2.0
// Bodies of remote.hpp: what a client asks at its start, and batches as requests.
#ifndef KDLIB_TEACHER_REMOTE_CLIENT_INL_HPP
#define KDLIB_TEACHER_REMOTE_CLIENT_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/io/json.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/teacher/remote.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC std::vector<std::int64_t> places_of(std::span<const std::int64_t> wanted,
                                               std::span<const std::int64_t> have) {
  std::vector<std::int64_t> out;
  for (const std::int64_t token : wanted) {
    const auto at = std::lower_bound(have.begin(), have.end(), token);
    if (at == have.end() || *at != token) return {};
    out.push_back(at - have.begin());
  }
  return out;
}

KDLIB_FUNC std::string ask_server(RemoteCalls& calls, const HttpRequest& request, int* status) {
  const auto body = std::make_shared<std::string>();
  const std::uint64_t number = calls.submit(request, [body](const HttpReply& reply) { *body = reply.body; });
  if (status != nullptr) *status = 200;
  try {
    calls.wait(number);
  } catch (const RemoteError& error) {
    const int s = error.status();
    if (status == nullptr || (s != 404 && s != 405 && s != 400 && s != 501)) throw;
    *status = s;
    return "";
  }
  return std::move(*body);
}

KDLIB_FUNC Dialect find_dialect(RemoteCalls& calls, const std::string& url) {
  const std::pair<const char*, Dialect> known[] = {{"/v1/teacher", Dialect::kdlib},
                                                   {"/get_model_info", Dialect::sglang},
                                                   {"/props", Dialect::llama_cpp},
                                                   {"/v1/models", Dialect::vllm}};
  for (const auto& [path, dialect] : known) {
    int status = 0;
    ask_server(calls, {"GET", path, {}}, &status);
    if (status == 200) return dialect;
  }
  fail<ConfigError>("[RemoteTeacher] ", url,
                    " is no server that is known: none of /v1/teacher (kdlib), /get_model_info (SGLang), /props "
                    "(llama.cpp) and /v1/models (vLLM) is there; name its dialect");
}

}  // namespace detail

KDLIB_FUNC RemoteClient::RemoteClient(const RemoteTeacherSettings& settings, RemoteWant want,
                                      std::unique_ptr<HttpTransport> transport, RemoteClock clock)
    : settings_(settings), calls_(settings, std::move(transport), std::move(clock)) {
  facts_.dialect = settings_.dialect;
  facts_.model = settings_.model;
  needs_.want = want;
  needs_.vocabulary = settings_.vocabulary;
  needs_.precision = settings_.precision;
  if (want == RemoteWant::top_k) needs_.top_k = settings_.top_k;
  if (facts_.dialect == Dialect::automatic) facts_.dialect = detail::find_dialect(calls_, settings_.urls[0]);
  if (facts_.dialect == Dialect::vllm) read_vllm_facts();
  if (facts_.dialect == Dialect::kdlib) read_kdlib_facts();
  check_wants();
  needs_.model = facts_.model;
  needs_.model_hash = facts_.model_hash;
  score_three_tokens();
}

KDLIB_FUNC void RemoteClient::read_vllm_facts() {
  const std::string at = where("/v1/models");
  try {
    const Json models = Json::parse(plain_json(ask({"GET", "/v1/models", {}})), at).at("data");
    std::string names;
    for (const Json& model : models) {
      const std::string name(model.at("id").as_string());
      names += (names.empty() ? "" : ", ") + printable(name);
      if (!settings_.model.empty() ? name != settings_.model : models.size() != 1) continue;
      facts_.model = name;
      facts_.context_length = model.int_or("max_model_len", 0);
      return;
    }
    fail<ConfigError>("[RemoteTeacher] ", at, " has the models ", names.empty() ? "(none)" : names,
                      settings_.model.empty() ? std::string("; say which one is the teacher")
                                              : concat("; there is no '", settings_.model, "'"));
  } catch (const FormatError& error) {
    throw RemoteError(concat("[RemoteTeacher] ", error.what(), "; is this a server of vLLM's kind?"), 200);
  }
}

KDLIB_FUNC void RemoteClient::read_kdlib_facts() {
  const std::string at = where("/v1/teacher");
  try {
    const Json json = Json::parse(ask({"GET", "/v1/teacher", {}}), at);
    facts_.model = json.at("model").as_string();
    facts_.model_hash = json.at("model_hash").as_string();
    facts_.tokenizer_hash = json.string_or("tokenizer_hash", "");
    facts_.vocabulary = json.at("vocabulary").as_int();
    facts_.hidden_size = json.at("hidden_size").as_int();
    facts_.context_length = json.int_or("context_length", 0);
    if (const auto ends = json.find_set("end_ids"))
      for (const Json& id : *ends) facts_.end_ids.push_back(static_cast<std::int32_t>(id.as_int()));
  } catch (const FormatError& error) {
    throw RemoteError(concat("[RemoteTeacher] ", error.what(), "; is this `serve --teacher`?"), 200);
  }
  require<ConfigError>(settings_.model.empty() || settings_.model == facts_.model, "[RemoteTeacher] ", at,
                       " has the model ", printable(facts_.model), "; there is no '", settings_.model, "'");
  needs_.hidden_size = facts_.hidden_size;
  const bool whole = needs_.want == RemoteWant::hidden || needs_.vocabulary == 0;  // the head's columns
  if (whole) needs_.vocabulary = facts_.vocabulary;
}

KDLIB_FUNC void RemoteClient::check_wants() {
  const std::string dialect = setting_text(facts_.dialect);
  require<ConfigError>(needs_.want != RemoteWant::hidden || facts_.dialect == Dialect::kdlib, "[RemoteTeacher] ",
                       settings_.urls[0], " speaks ", dialect,
                       ", which sends no hidden states: use serve --teacher, or a loss on the teacher's top-k");
  require<ConfigError>(needs_.vocabulary > 0, "[RemoteTeacher] vocabulary is 0, and a server of the dialect ", dialect,
                       " does not say how many tokens its teacher has: give the student's");
  require<ConfigError>(needs_.top_k <= needs_.vocabulary, "[RemoteTeacher] top_k is ", needs_.top_k,
                       ", and the vocabulary has ", needs_.vocabulary, " tokens");
}

/// Whatever does not work shows here, before the first step.
KDLIB_FUNC void RemoteClient::score_three_tokens() {
  TokenBatch batch;
  const std::int32_t last = static_cast<std::int32_t>(std::min<std::int64_t>(3, needs_.vocabulary - 1));
  batch.append(std::vector<std::int32_t>{std::min(1, last), std::min(2, last), last});
  if (facts_.dialect == Dialect::llama_cpp && needs_.want == RemoteWant::sampled) return;  // any token may be too rare
  Ticket ticket = send(batch);
  wait(ticket);
}

KDLIB_FUNC RemoteClient::Ticket RemoteClient::send(const TokenBatch& batch) { return send(batch, needs_); }

KDLIB_FUNC RemoteClient::Ticket RemoteClient::send(const TokenBatch& batch, const RemoteNeeds& needs) {
  batch.check(needs.vocabulary);
  Ticket ticket;
  ticket.batch.ids = batch.ids;
  ticket.batch.offsets = batch.offsets;
  ticket.token = batch.rows().token;
  const auto documents = std::make_shared<const std::vector<ScoredDocument>>(scored_documents(batch));
  for (const ScoredDocument& document : *documents)
    require<InputError>(
        facts_.context_length == 0 || static_cast<std::int64_t>(document.ids.size()) <= facts_.context_length,
        "[RemoteTeacher] a document has ", document.ids.size(), " tokens; ", name(), " takes ", facts_.context_length);
  ticket.rows->resize(static_cast<std::int64_t>(ticket.token.size()), needs);
  if (documents->empty()) return ticket;
  if (facts_.dialect == Dialect::kdlib) {
    const auto read = [documents, needs, rows = ticket.rows, at = where("/v1/teacher/rows")](const HttpReply& reply) {
      rows->put(0, read_kdlib(reply.body, *documents, needs, at), needs);
    };
    ticket.numbers.push_back(calls_.submit(kdlib_request(*documents, needs), read));
    return ticket;
  }
  std::int64_t begin = 0;
  for (const ScoredDocument& document : *documents) {
    send_document(ticket, std::shared_ptr<const ScoredDocument>(documents, &document), begin, needs);
    begin += static_cast<std::int64_t>(document.rows.size());
  }
  return ticket;
}

/// Rows [begin, begin + document's rows) of the ticket.
KDLIB_FUNC void RemoteClient::send_document(Ticket& ticket, const std::shared_ptr<const ScoredDocument>& document,
                                            std::int64_t begin, const RemoteNeeds& needs) {
  const auto rows = ticket.rows;
  if (facts_.dialect == Dialect::llama_cpp) {
    for (std::size_t r = 0; r < document->rows.size(); ++r)
      ticket.numbers.push_back(
          calls_.submit(llama_cpp_request(*document, r, needs), [=, at = where("/completion")](const HttpReply& reply) {
            rows->put(begin + static_cast<std::int64_t>(r), read_llama_cpp(reply.body, *document, r, needs, at), needs);
          }));
    return;
  }
  const bool vllm = facts_.dialect == Dialect::vllm;
  HttpRequest request = vllm ? vllm_request(*document, needs) : sglang_request(*document, needs);
  const std::string at = where(request.path.c_str());
  ticket.numbers.push_back(calls_.submit(std::move(request), [=](const HttpReply& reply) {
    rows->put(begin, vllm ? read_vllm(reply.body, *document, needs, at) : read_sglang(reply.body, *document, needs, at),
              needs);
  }));
}

KDLIB_FUNC void RemoteClient::wait(Ticket& ticket) {
  while (!ticket.numbers.empty()) {
    const std::uint64_t number = ticket.numbers.front();
    try {
      calls_.wait(number);
    } catch (...) {
      forget(ticket);
      throw;
    }
    ticket.numbers.erase(ticket.numbers.begin());
  }
}

KDLIB_FUNC void RemoteClient::forget(Ticket& ticket) {
  for (const std::uint64_t number : ticket.numbers) calls_.forget(number);
  ticket.numbers.clear();
}

KDLIB_FUNC std::string RemoteClient::name() const {
  return concat(facts_.model.empty() ? "a teacher" : facts_.model, " at ", settings_.urls[0]);
}

KDLIB_NAMESPACE_END

#endif
