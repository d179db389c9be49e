// SPDX-License-Identifier: Apache-2.0
// What is asked of a teacher's server about a document, and what its answers say, in each dialect. No sockets.
#ifndef KDLIB_TEACHER_REMOTE_ANSWERS_HPP
#define KDLIB_TEACHER_REMOTE_ANSWERS_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kdlib/teacher/remote_calls.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a client needs of each row.
enum class RemoteWant : std::uint8_t { sampled, top_k, hidden };
constexpr std::array<const char*, 3> enum_names(RemoteWant) { return {"sampled", "top_k", "hidden"}; }

/// A document and those of its tokens whose next token counts.
struct ScoredDocument {
  std::vector<std::int32_t> ids{};
  std::vector<std::int64_t> rows{};  // rising, each at most ids.size() - 2
};

/// What is known of the server and of the student.
struct RemoteNeeds {
  RemoteWant want = RemoteWant::sampled;
  std::int64_t top_k = 0;        // of RemoteWant::top_k
  std::int64_t vocabulary = 0;   // ids from here on are dropped
  std::int64_t hidden_size = 0;  // of RemoteWant::hidden
  double temperature = 1;        // 0 for the probe alone
  std::string model{};           // as the server calls it
  RemotePrecision precision = RemotePrecision::f32;
  std::string model_hash{};  // dialect kdlib: of the teacher that the start found
};

/// The rows of one request, or of a batch; what is not wanted is empty.
struct RemoteRows {
  std::int64_t rows = 0;
  std::vector<float> label;       // [R] log p(next token), <= 0; with top_k NaN where the answer does not tell it
  std::vector<std::int32_t> ids;  // [R, K]; -1: dropped
  std::vector<float> log_probs;   // [R, K]
  std::vector<float> log_tail;    // [R] log of the mass of all other tokens
  std::vector<float> hidden;      // [R, H]

  /// Memory for `count` rows.
  void resize(std::int64_t count, const RemoteNeeds& needs);
  /// Puts the rows of `part` from row `begin` on.
  void put(std::int64_t begin, const RemoteRows& part, const RemoteNeeds& needs);
};

/// The documents of a batch that have rows, in order. ConfigError: positions that do not start at 0 in each document.
std::vector<ScoredDocument> scored_documents(const TokenBatch& batch);

/// JSON as Python's servers write it: bare NaN becomes null, Infinity and -Infinity numbers of 1e308. Texts in quotes
/// stay.
std::string plain_json(std::string text);

/// Requests about documents: one a document for vLLM and SGLang, one a row for llama.cpp, one for all for kdlib (so
/// that the server's batch is the client's, and its bits are those of a LiveTeacher).
HttpRequest vllm_request(const ScoredDocument& document, const RemoteNeeds& needs);
HttpRequest sglang_request(const ScoredDocument& document, const RemoteNeeds& needs);
HttpRequest llama_cpp_request(const ScoredDocument& document, std::size_t row, const RemoteNeeds& needs);
HttpRequest kdlib_request(std::span<const ScoredDocument> documents, const RemoteNeeds& needs);

/// Answers to them, checked: ids are echoed, every row has its entry, log-probabilities are numbers <= 1e-3 (kept as at
/// most 0), those of a row add up to at most 1.001, K tokens or K and the actual one. A value <= -9999 is -infinity.
/// UnreadableAnswer: no JSON or safetensors. RemoteError naming the position for everything else. `where` opens it.
RemoteRows read_vllm(const std::string& body, const ScoredDocument& document, const RemoteNeeds& needs,
                     const std::string& where);
RemoteRows read_sglang(const std::string& body, const ScoredDocument& document, const RemoteNeeds& needs,
                       const std::string& where);
RemoteRows read_llama_cpp(const std::string& body, const ScoredDocument& document, std::size_t row,
                          const RemoteNeeds& needs, const std::string& where);
RemoteRows read_kdlib(const std::string& body, std::span<const ScoredDocument> documents, const RemoteNeeds& needs,
                      const std::string& where);

/// SHA-256 of documents and rows, by which an answer of `serve --teacher` says what it is about: of each document the
/// number of ids (int64), the ids (int32), the number of rows (int64) and the rows (int64), little-endian.
std::string scored_hash(std::span<const ScoredDocument> documents);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_answers_inl.hpp"
#endif

#endif
