// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher_server.hpp: POST /v1/teacher/rows.
#ifndef KDLIB_TOOLS_SERVICE_TEACHER_ROWS_INL_HPP
#define KDLIB_TOOLS_SERVICE_TEACHER_ROWS_INL_HPP

#include "kdlib/tools/service/teacher_server.hpp"
#include "kdlib/tools/service/teacher_server_inl.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC std::vector<ScoredDocument> TeacherServer::documents_of(const Json& json) const {
  std::vector<ScoredDocument> out;
  const Json documents = json.at("documents");
  if (!documents.is_array() || documents.size() == 0) documents.refuse("is no list of documents");
  for (const Json& one : documents) {
    detail::refuse_unknown(one, {"ids", "rows", "at"});
    ScoredDocument document{detail::ids_of(one.at("ids"), facts_.vocabulary), {}};
    check_length(document.ids.size());
    for (const Json& row : one.at("rows")) {
      const std::int64_t r = row.as_int();
      const bool rises = document.rows.empty() || r > document.rows.back();
      if (r < 0 || r > static_cast<std::int64_t>(document.ids.size()) - 2 || !rises)
        row.refuse(concat("is ", r, "; rows rise, from 0 to the document's last token but one"));
      document.rows.push_back(r);
    }
    out.push_back(std::move(document));
  }
  return out;
}

/// Log-probabilities of the tokens that "at" lists for each row of each document, as many for all.
KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::rows_at(const Json& json, const std::vector<ScoredDocument>& documents) {
  std::vector<std::int32_t> ids;
  std::size_t width = 0, d = 0;
  for (const Json& one : json.at("documents")) {
    const Json lists = one.at("at");
    const std::size_t rows = documents[d++].rows.size();
    if (lists.size() != rows) lists.refuse(concat("has ", lists.size(), " lists for ", rows, " rows"));
    for (const Json& list : lists) {
      const std::vector<std::int32_t> row = detail::ids_of(list, facts_.vocabulary);
      if (width == 0) width = row.size();
      if (row.size() != width || width == 0)
        list.refuse(concat("has ", row.size(), " ids; every row has the same number, at least one"));
      ids.insert(ids.end(), row.begin(), row.end());
    }
  }
  const TokenBatch batch = detail::batch_of(documents);
  const auto R = static_cast<std::int64_t>(batch.rows().token.size()), K = static_cast<std::int64_t>(width);
  std::unique_lock<std::mutex> lock(model_mutex_);
  const std::vector<float> found = engine_->log_probs_at(batch, ids, K);
  lock.unlock();
  ServiceAnswer out;
  out.type = "application/octet-stream";
  out.body = detail::safetensors_text(
      {{"ids", DType::i32, {R, K}, detail::bytes_of(ids)}, {"log_probs", DType::f32, {R, K}, detail::bytes_of(found)}},
      {{"model", facts_.model_hash}, {"documents", scored_hash(documents)}});
  return out;
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::rows(const std::string& body) {
  const Json json = Json::parse(body, "body");
  detail::refuse_unknown(json, {"documents", "want", "dtype", "top_k"});
  const std::vector<ScoredDocument> documents = documents_of(json);
  const std::string want_name = json.string_or("want", "hidden"), dtype = json.string_or("dtype", "f32");
  if (want_name == "at") return rows_at(json, documents);
  for (const Json& one : json.at("documents"))
    if (one.contains("at")) throw ServiceProblem(422, "documents have \"at\"; it belongs to want \"at\"");
  const std::optional<RemoteWant> want = enum_value<RemoteWant>(want_name);
  const std::optional<RemotePrecision> precision = enum_value<RemotePrecision>(dtype);
  const std::int64_t K = json.int_or("top_k", 20);
  if (!want)
    throw ServiceProblem(422, concat("want is '", printable(want_name), "'; it is hidden, top_k, sampled or at"));
  if (!precision) throw ServiceProblem(422, concat("dtype is '", printable(dtype), "'; it is f32 or bf16"));
  if (want == RemoteWant::top_k && (K < 1 || K > facts_.vocabulary))
    throw ServiceProblem(422, concat("top_k is ", K, "; it is 1 to ", facts_.vocabulary));
  const TokenBatch batch = detail::batch_of(documents);
  const auto R = static_cast<std::int64_t>(batch.rows().token.size());
  std::vector<detail::AnswerTensor> tensors;
  if (want == RemoteWant::hidden) {
    std::unique_lock<std::mutex> lock(model_mutex_);
    const std::vector<float> hidden = engine_->hidden(batch);
    lock.unlock();
    const std::vector<std::int64_t> shape{R, facts_.hidden_size};
    if (precision == RemotePrecision::f32) tensors.push_back({"hidden", DType::f32, shape, detail::bytes_of(hidden)});
    else
      tensors.push_back(
          {"hidden", DType::bf16, shape, detail::bytes_of(std::vector<bf16>(hidden.begin(), hidden.end()))});
  } else {
    std::unique_lock<std::mutex> lock(model_mutex_);
    const std::vector<ServedRow> found = engine_->rows(batch, want == RemoteWant::top_k ? K : 1);
    lock.unlock();
    std::vector<float> label, log_probs, tail;
    std::vector<std::int32_t> ids;
    for (const ServedRow& row : found) {
      if (!row.top.finite) throw ServiceProblem(500, "a logit of the teacher is not finite");
      label.push_back(row.top.label_log_prob);
      tail.push_back(row.top.log_tail.front());
      ids.insert(ids.end(), row.top.ids.begin(), row.top.ids.end());
      log_probs.insert(log_probs.end(), row.top.log_probs.begin(), row.top.log_probs.end());
    }
    if (want == RemoteWant::top_k)
      tensors = {{"ids", DType::i32, {R, K}, detail::bytes_of(ids)},
                 {"log_probs", DType::f32, {R, K}, detail::bytes_of(log_probs)},
                 {"log_tail", DType::f32, {R}, detail::bytes_of(tail)}};
    tensors.push_back({"label", DType::f32, {R}, detail::bytes_of(label)});
  }
  ServiceAnswer out;
  out.type = "application/octet-stream";
  out.body = detail::safetensors_text(tensors, {{"model", facts_.model_hash}, {"documents", scored_hash(documents)}});
  return out;
}

KDLIB_NAMESPACE_END

#endif
