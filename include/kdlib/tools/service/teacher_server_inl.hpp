// SPDX-License-Identifier: Apache-2.0
// Bodies of teacher_server.hpp.
#ifndef KDLIB_TOOLS_SERVICE_TEACHER_SERVER_INL_HPP
#define KDLIB_TOOLS_SERVICE_TEACHER_SERVER_INL_HPP

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/tensor_info.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/teacher_server.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A tensor of an answer.
struct AnswerTensor {
  const char* name;
  DType dtype;
  std::vector<std::int64_t> extents;
  std::string bytes;
};

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

/// A safetensors file in memory.
KDLIB_TOOLS_FUNC std::string safetensors_text(const std::vector<AnswerTensor>& tensors,
                                              const std::vector<std::pair<const char*, std::string>>& metadata) {
  JsonWriter json;
  json.begin_object().key("__metadata__").begin_object();
  for (const auto& [key, value] : metadata) json.member(key, value);
  json.end_object();
  std::size_t offset = 0;
  for (const AnswerTensor& t : tensors) {
    json.key(t.name).begin_object().member("dtype", dtype_name(t.dtype)).member("shape", t.extents);
    json.key("data_offsets").begin_array().value(offset).value(offset + t.bytes.size()).end_array().end_object();
    offset += t.bytes.size();
  }
  json.end_object();
  std::string header = json.text();
  header.append((8 - header.size() % 8) % 8, ' ');
  std::string out(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(header.size() >> (8 * i) & 255);
  out.reserve(8 + header.size() + offset);
  out += header;
  for (const AnswerTensor& t : tensors) out += t.bytes;
  return out;
}

/// The documents as a batch whose rows are theirs.
KDLIB_TOOLS_FUNC TokenBatch batch_of(std::span<const ScoredDocument> documents) {
  TokenBatch batch;
  for (const ScoredDocument& document : documents) {
    std::vector<float> weights(document.ids.size(), 0.0f);
    for (const std::int64_t row : document.rows) weights[static_cast<std::size_t>(row)] = 1;
    batch.append(document.ids, weights);
  }
  return batch;
}

KDLIB_TOOLS_FUNC std::vector<std::int32_t> ids_of(const Json& list, std::int64_t vocabulary) {
  if (!list.is_array() || list.size() == 0) list.refuse("is no list of token ids");
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) {
    if (id.as_int() < 0 || id.as_int() >= vocabulary)
      id.refuse(concat("is ", id.as_int(), "; the teacher has ", vocabulary, " tokens"));
    ids.push_back(static_cast<std::int32_t>(id.as_int()));
  }
  return ids;
}

/// A token's entry of prompt_logprobs.
KDLIB_TOOLS_FUNC void write_entry(JsonWriter& json, const TeacherEngine& engine, std::int32_t id, double log_prob,
                                  std::int64_t rank) {
  json.key(std::to_string(id)).begin_object().member("logprob", std::max(log_prob, -9999.0)).member("rank", rank);
  json.member("decoded_token", replace_invalid_utf8(engine.text_of(id))).end_object();
}

/// vLLM's list: null for the first token, then for each one the K most probable tokens and the actual one.
KDLIB_TOOLS_FUNC void write_prompt_logprobs(JsonWriter& json, const TeacherEngine& engine,
                                            const std::vector<std::int32_t>& ids, const std::vector<ServedRow>& rows,
                                            std::int64_t K) {
  json.begin_array().null();
  for (std::size_t t = 1; t < ids.size(); ++t) {
    const TopKRow& top = rows[t - 1].top;
    if (!top.finite) throw ServiceProblem(500, concat("a logit of the teacher before token ", t, " is not finite"));
    const auto shown = static_cast<std::size_t>(K);
    json.begin_object();
    for (std::size_t k = 0; k < shown; ++k)
      write_entry(json, engine, top.ids[k], static_cast<double>(top.log_probs[k]), static_cast<std::int64_t>(k) + 1);
    const auto end = top.ids.begin() + static_cast<std::ptrdiff_t>(shown);
    if (std::find(top.ids.begin(), end, ids[t]) == end)
      write_entry(json, engine, ids[t], static_cast<double>(top.label_log_prob),
                  std::max(rows[t - 1].label_rank, K + 1));
    json.end_object();
  }
  json.end_array();
}

KDLIB_TOOLS_FUNC void refuse_unknown(const Json& object, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) object.refuse("is no object");
  for (const auto& [key, value] : object.members())
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw ServiceProblem(422, concat("'", printable(key), "' is no field of this request"));
}

}  // namespace detail

KDLIB_TOOLS_FUNC ServiceAnswer error_answer(int status, const std::string& message) {
  JsonWriter json;
  json.begin_object().key("error").begin_object().member("message", replace_invalid_utf8(message));
  json.member("type", std::string(status < 500 ? "BadRequestError" : "InternalServerError"));
  json.key("param").null().member("code", status).end_object().end_object();
  ServiceAnswer answer;
  answer.status = status;
  answer.body = json.text();
  return answer;
}

KDLIB_TOOLS_FUNC TeacherServer::TeacherServer(const ServiceSettings& settings, std::unique_ptr<TeacherEngine> engine,
                                              const std::string& folder, std::function<double()> clock)
    : settings_(settings),
      engine_(std::move(engine)),
      facts_(engine_->facts()),
      head_file_(join_path(folder, "head.safetensors")),
      clock_(std::move(clock)),
      guard_(settings_) {
  engine_->write_head(head_file_);
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::handle(const ServiceRequest& request) {
  try {
    return answer(request);
  } catch (const ServiceProblem& problem) {
    return error_answer(problem.status(), problem.what());
  } catch (const std::exception& error) {
    return error_answer(500, error.what());
  }
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::answer(const ServiceRequest& request) {
  {
    const std::lock_guard<std::mutex> lock(guard_mutex_);
    if (const auto problem = guard_.check_place(request)) throw *problem;
    if (request.path == "/health") return {.body = "{}"};
    if (const auto problem = guard_.check_token(ServiceGuard::bearer(request), clock_())) throw *problem;
  }
  using Post = ServiceAnswer (TeacherServer::*)(const std::string&);
  const std::pair<const char*, Post> posts[] = {{"/v1/teacher/rows", &TeacherServer::rows},
                                                {"/v1/completions", &TeacherServer::completions},
                                                {"/tokenize", &TeacherServer::tokenized}};
  const bool get = request.method == "GET" || request.method == "HEAD";
  for (const char* path : {"/v1/teacher", "/v1/teacher/head", "/v1/models"})
    if (request.path == path && !get) throw ServiceProblem(405, concat(path, " is read by GET"));
  if (request.path == "/v1/teacher") return teacher();
  if (request.path == "/v1/models") return models();
  if (request.path == "/v1/teacher/head") return head(request);
  Post post = nullptr;
  for (const auto& [path, handler] : posts)
    if (request.path == path) post = handler;
  if (post == nullptr)
    throw ServiceProblem(404, "there is no such place here: this server scores text (serve --teacher)");
  if (request.method != "POST") throw ServiceProblem(405, concat(request.path, " takes POST"));
  if (request.header("content-type").substr(0, 16) != "application/json")
    throw ServiceProblem(415, "the body must be application/json");
  ServiceAnswer later;
  later.later = [this, post, body = request.body]() -> ServiceAnswer {
    try {
      return (this->*post)(body);
    } catch (const ServiceProblem& problem) {
      return error_answer(problem.status(), problem.what());
    } catch (const FormatError& error) {
      return error_answer(400, error.what());
    } catch (const ConfigError& error) {
      return error_answer(400, error.what());
    } catch (const std::exception& error) {
      return error_answer(500, error.what());
    }
  };
  return later;
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::teacher() const {
  JsonWriter json;
  json.begin_object().member("server", "kdlib").member("model", facts_.name);
  json.member("model_hash", facts_.model_hash).member("tokenizer_hash", facts_.tokenizer_hash);
  json.member("vocabulary", facts_.vocabulary).member("hidden_size", facts_.hidden_size);
  json.member("context_length", facts_.context_length).member("dtype", "F32");
  json.member("end_ids", facts_.end_ids).end_object();
  return {.body = json.text()};
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::models() const {
  JsonWriter json;
  json.begin_object().member("object", "list").key("data").begin_array().begin_object();
  json.member("id", facts_.name).member("object", "model").member("owned_by", "kdlib");
  if (facts_.context_length > 0) json.member("max_model_len", facts_.context_length);
  json.end_object().end_array().end_object();
  return {.body = json.text()};
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::head(const ServiceRequest& request) const {
  ServiceAnswer out;
  out.headers.emplace_back("ETag", "\"" + facts_.model_hash + "\"");
  if (request.header("if-none-match") == out.headers.back().second) {
    out.status = 304;
    return out;
  }
  out.type = "application/octet-stream";
  const std::shared_ptr<std::FILE> file(std::fopen(head_file_.c_str(), "rb"), [](std::FILE* f) {
    if (f != nullptr) std::fclose(f);
  });
  require<IoError>(file != nullptr, "[serve] ", head_file_, " cannot be read");
  out.producer = [file](std::string& piece) {
    piece.resize(std::size_t{1} << 20);
    piece.resize(std::fread(piece.data(), 1, piece.size(), file.get()));
    require<IoError>(std::ferror(file.get()) == 0, "[serve] the head's file cannot be read");
    return std::feof(file.get()) == 0;
  };
  return out;
}

KDLIB_TOOLS_FUNC void TeacherServer::check_length(std::size_t tokens) const {
  const auto count = static_cast<std::int64_t>(tokens);
  if (facts_.context_length > 0 && count > facts_.context_length)
    throw ServiceProblem(400, concat("a document has ", count, " tokens; the teacher takes ", facts_.context_length));
}

/// One text, one list of ids, or a list of either.
KDLIB_TOOLS_FUNC std::vector<std::vector<std::int32_t>> TeacherServer::prompts_of(const Json& prompt) const {
  std::vector<std::vector<std::int32_t>> out;
  const auto add = [&](const Json& one) {
    if (!one.is_string()) return out.push_back(detail::ids_of(one, facts_.vocabulary));
    out.push_back(engine_->tokenize(std::string(one.as_string())));
    if (out.back().empty()) one.refuse("is empty");
  };
  const bool many = prompt.is_array() && prompt.size() > 0 && !prompt[0].is_number();
  if (!many) add(prompt);
  else
    for (const Json& one : prompt) add(one);
  for (const auto& ids : out) check_length(ids.size() + 1);
  return out;
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::completions(const std::string& body) {
  const Json json = Json::parse(body, "body");
  const std::string model = json.string_or("model", facts_.name);
  if (model != facts_.name)
    throw ServiceProblem(404, concat("there is no model '", printable(model), "'; this server has ", facts_.name));
  const std::int64_t length = json.int_or("max_tokens", 16), K = json.int_or("prompt_logprobs", -2);
  const auto refuse = [&](const char* key, const char* why) {
    const auto given = json.find_set(key);
    const bool off = !given || (given->is_bool() && !given->as_bool());
    if (!off) throw ServiceProblem(400, concat("'", key, "' is not built here: ", why));
  };
  refuse("stream", "a prompt is scored at once");
  refuse("echo", "ask for prompt_logprobs");
  refuse("logprobs", "ask for prompt_logprobs");
  if (length != 1)
    throw ServiceProblem(400, concat("max_tokens is ", length, "; this server scores and writes one token: give 1"));
  if (K < -2 || K > facts_.vocabulary || (json.find_set("prompt_logprobs") && K == -2))
    throw ServiceProblem(400, concat("prompt_logprobs is ", K, "; it is -1 (all) to ", facts_.vocabulary));
  const bool with_ids = json.bool_or("return_token_ids", false);
  const std::vector<std::vector<std::int32_t>> prompts = prompts_of(json.at("prompt"));
  JsonWriter out({.non_finite = NonFinite::null});
  out.begin_object().member("id", concat("cmpl-", prompts.size())).member("object", "text_completion");
  out.member("model", facts_.name).key("choices").begin_array();
  std::size_t read = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<std::int32_t> ids = prompts[i];
    read += ids.size();
    ids.push_back(0);  // so that the last token has a row: the distribution of the one that is written
    TokenBatch batch;
    batch.append(ids);
    std::unique_lock<std::mutex> lock(model_mutex_);
    const std::vector<ServedRow> rows =
        engine_->rows(batch, K == -1 ? facts_.vocabulary : std::max<std::int64_t>(K, 1));
    lock.unlock();
    if (!rows.back().top.finite) throw ServiceProblem(500, "a logit of the teacher is not finite");
    const std::int32_t next = rows.back().top.ids.front();
    out.begin_object().member("index", i).member("text", replace_invalid_utf8(engine_->text_of(next)));
    out.member("finish_reason", "length").key("logprobs").null().key("prompt_logprobs");
    if (K == -2) out.null();
    else detail::write_prompt_logprobs(out, *engine_, prompts[i], rows, K == -1 ? facts_.vocabulary : K);
    if (with_ids) out.member("prompt_token_ids", prompts[i]).key("token_ids").begin_array().value(next).end_array();
    out.end_object();
  }
  out.end_array().key("usage").begin_object().member("prompt_tokens", read);
  out.member("completion_tokens", prompts.size()).member("total_tokens", read + prompts.size());
  out.end_object().end_object();
  return {.body = out.text()};
}

KDLIB_TOOLS_FUNC ServiceAnswer TeacherServer::tokenized(const std::string& body) {
  const Json json = Json::parse(body, "body");
  const std::vector<std::int32_t> ids = engine_->tokenize(std::string(json.at("prompt").as_string()));
  JsonWriter out;
  out.begin_object().member("tokens", ids).member("count", ids.size());
  out.member("max_model_len", facts_.context_length).end_object();
  return {.body = out.text()};
}

KDLIB_NAMESPACE_END

#include "kdlib/tools/service/teacher_rows_inl.hpp"

#endif
