// SPDX-License-Identifier: Apache-2.0
// `serve --teacher`: a server whose model scores text for clients. It offers vLLM's interface for prompt
// log-probabilities, and kdlib's own interface for rows in binary form (docs/remote_teachers.md). This file has no
// sockets.
#ifndef KDLIB_TOOLS_SERVICE_TEACHER_SERVER_HPP
#define KDLIB_TOOLS_SERVICE_TEACHER_SERVER_HPP

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "kdlib/io/json.hpp"
#include "kdlib/teacher/remote_answers.hpp"
#include "kdlib/teacher/top_k_row.hpp"
#include "kdlib/tensor/token_batch.hpp"
#include "kdlib/tools/service/guard.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a server says of its teacher.
struct ServedTeacher {
  std::string name{};                          // name of the model for clients
  std::string model_hash{}, tokenizer_hash{};  // content_hash of the model; hash of the tokenizer, empty without one
  std::int64_t vocabulary = 0, hidden_size = 0, context_length = 0;
  std::vector<std::int32_t> end_ids{};
};

/// One row of the teacher's distribution at temperature 1.
struct ServedRow {
  TopKRow top{};
  std::int64_t label_rank = 0;  // 1 + number of tokens that are more probable than the text's next token
};

/// The model behind a TeacherServer. Calls come one after the other, but from any thread.
class TeacherEngine {
 public:
  virtual ~TeacherEngine() = default;
  virtual const ServedTeacher& facts() const = 0;
  /// Returns the hidden states [R, H] of the rows of a batch, in float.
  virtual std::vector<float> hidden(const TokenBatch& batch) = 0;
  /// Returns the K most probable tokens of each row; `top_k` (K) is 1 to V.
  virtual std::vector<ServedRow> rows(const TokenBatch& batch, std::int64_t top_k) = 0;
  /// Returns log p of the tokens `ids` [R, width], which the client chose, for each row: [R, width].
  virtual std::vector<float> log_probs_at(const TokenBatch& batch, std::span<const std::int32_t> ids,
                                          std::int64_t width) = 0;
  /// Writes the head in the form of caches (write_cache_head).
  virtual void write_head(const std::string& path) = 0;
  /// Returns the ids of a text. ConfigError: there is no tokenizer.
  virtual std::vector<std::int32_t> tokenize(const std::string& text) const = 0;
  /// Returns a token as text; empty without a tokenizer.
  virtual std::string text_of(std::int32_t id) const = 0;
};

/// Answers requests about a teacher. ServiceGuard decides which requests are allowed, as for the web page. The model
/// works on one request at a time, so that the bits of an answer do not depend on the requests of other clients.
class TeacherServer {
 public:
  /// `folder` is where the file of the head is written. `clock` returns seconds of a clock that never goes back.
  TeacherServer(const ServiceSettings& settings, std::unique_ptr<TeacherEngine> engine, const std::string& folder,
                std::function<double()> clock);

  /// Answers a request at once, or sets ServiceAnswer::later if the model must run. Never throws.
  ServiceAnswer handle(const ServiceRequest& request);

 private:
  ServiceAnswer answer(const ServiceRequest& request);
  ServiceAnswer teacher() const;
  ServiceAnswer models() const;
  ServiceAnswer head(const ServiceRequest& request) const;
  ServiceAnswer rows(const std::string& body);
  ServiceAnswer rows_at(const Json& json, const std::vector<ScoredDocument>& documents);
  ServiceAnswer completions(const std::string& body);
  ServiceAnswer tokenized(const std::string& body);
  std::vector<ScoredDocument> documents_of(const Json& json) const;
  std::vector<std::vector<std::int32_t>> prompts_of(const Json& json) const;
  void check_length(std::size_t tokens) const;

  const ServiceSettings settings_;
  std::unique_ptr<TeacherEngine> engine_;
  const ServedTeacher facts_;
  std::string head_file_;
  std::function<double()> clock_;
  ServiceGuard guard_;
  std::mutex guard_mutex_, model_mutex_;
};

/// Returns a refusal in the form of OpenAI's interface: {"error": {"message", "type", "param", "code"}}.
ServiceAnswer error_answer(int status, const std::string& message);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/teacher_server_inl.hpp"
#endif

#endif
