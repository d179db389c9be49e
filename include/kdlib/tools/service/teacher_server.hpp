// SPDX-License-Identifier: Apache-2.0
// `serve --teacher`: a model that scores text for others. The interface is vLLM's for prompt log-probabilities, and one
// of its own for rows in binary form (docs/remote_teachers.md). No sockets.
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
  std::string name{};                          // as clients call it
  std::string model_hash{}, tokenizer_hash{};  // content_hash of the model; empty without a tokenizer
  std::int64_t vocabulary = 0, hidden_size = 0, context_length = 0;
  std::vector<std::int32_t> end_ids{};
};

/// One row of the teacher's distribution at temperature 1.
struct ServedRow {
  TopKRow top{};
  std::int64_t label_rank = 0;  // 1 + tokens that are more probable than the next one
};

/// The model behind a TeacherServer. Calls come one after the other, from any thread.
class TeacherEngine {
 public:
  virtual ~TeacherEngine() = default;
  virtual const ServedTeacher& facts() const = 0;
  /// Hidden states [R, H] of the rows of a batch, in float.
  virtual std::vector<float> hidden(const TokenBatch& batch) = 0;
  /// The K most probable tokens of each row, K of 1 to V.
  virtual std::vector<ServedRow> rows(const TokenBatch& batch, std::int64_t top_k) = 0;
  /// log p of `width` tokens of each row, [R, width]: those that somebody else chose.
  virtual std::vector<float> log_probs_at(const TokenBatch& batch, std::span<const std::int32_t> ids,
                                          std::int64_t width) = 0;
  /// The head as caches keep it (write_cache_head).
  virtual void write_head(const std::string& path) = 0;
  /// ConfigError without a tokenizer.
  virtual std::vector<std::int32_t> tokenize(const std::string& text) const = 0;
  /// A token as text; empty without a tokenizer.
  virtual std::string text_of(std::int32_t id) const = 0;
};

/// Answers requests about a teacher. Who may ask: ServiceGuard, as for the page. The model is asked for one request at
/// a time: the bits of an answer do not depend on what others ask.
class TeacherServer {
 public:
  /// `folder` takes the head's file. `clock` in seconds that only go forward.
  TeacherServer(const ServiceSettings& settings, std::unique_ptr<TeacherEngine> engine, const std::string& folder,
                std::function<double()> clock);

  /// Answers at once, or gives `later` where the model is to be asked. Never throws.
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

/// A refusal as OpenAI's interface has it: {"error": {"message", "type", "param", "code"}}.
ServiceAnswer error_answer(int status, const std::string& message);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/teacher_server_inl.hpp"
#endif

#endif
