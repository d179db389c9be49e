// SPDX-License-Identifier: Apache-2.0
// The requests to a teacher's server about a document, and the reading of the server's answers, in each dialect. This
// file has no sockets.
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

/// What a client needs of each row: the log-probability of the next token, the K most probable tokens, or the hidden
/// state.
enum class RemoteWant : std::uint8_t { sampled, top_k, hidden };
constexpr std::array<const char*, 3> enum_names(RemoteWant) { return {"sampled", "top_k", "hidden"}; }

/// A document and its rows: the places of those tokens whose next token counts.
struct ScoredDocument {
  std::vector<std::int32_t> ids{};
  std::vector<std::int64_t> rows{};  // rising, each at most ids.size() - 2
};

/// What the client knows of the server and of the student.
struct RemoteNeeds {
  RemoteWant want = RemoteWant::sampled;
  std::int64_t top_k = 0;        // K; for RemoteWant::top_k only
  std::int64_t vocabulary = 0;   // ids at or above this number are dropped
  std::int64_t hidden_size = 0;  // H; for RemoteWant::hidden only
  double temperature = 1;        // other values only in the probe (remote_probes.hpp)
  std::string model{};           // the server's name for the model
  RemotePrecision precision = RemotePrecision::f32;
  std::string model_hash{};  // dialect kdlib: hash of the teacher that the client found at its start
};

/// The rows of one request or of a batch. What is not wanted (RemoteWant) is empty.
struct RemoteRows {
  std::int64_t rows = 0;
  std::vector<float> label;       // [R] log p(next token), <= 0; with top_k NaN if the answer does not tell it
  std::vector<std::int32_t> ids;  // [R, K]; -1: dropped
  std::vector<float> log_probs;   // [R, K]
  std::vector<float> log_tail;    // [R] log of the probability mass of all other tokens
  std::vector<float> hidden;      // [R, H]

  /// Allocates memory for `count` rows.
  void resize(std::int64_t count, const RemoteNeeds& needs);
  /// Copies the rows of `part` into this object, from row `begin` on.
  void put(std::int64_t begin, const RemoteRows& part, const RemoteNeeds& needs);
};

/// Returns the documents of a batch that have rows, in order. ConfigError: the positions of a document are not 0, 1, 2,
/// ...
std::vector<ScoredDocument> scored_documents(const TokenBatch& batch);

/// Turns JSON as servers in Python write it into valid JSON: a bare NaN becomes null, Infinity and -Infinity become
/// 1e308 and -1e308. Texts in quotes are not changed.
std::string plain_json(std::string text);

/// Requests about documents. vLLM and SGLang take one request for each document, llama.cpp one for each row. kdlib
/// takes one request for all documents, so that the server works on the same batch as the client and its numbers are
/// equal to those of a LiveTeacher, bit for bit.
HttpRequest vllm_request(const ScoredDocument& document, const RemoteNeeds& needs);
HttpRequest sglang_request(const ScoredDocument& document, const RemoteNeeds& needs);
HttpRequest llama_cpp_request(const ScoredDocument& document, std::size_t row, const RemoteNeeds& needs);
HttpRequest kdlib_request(std::span<const ScoredDocument> documents, const RemoteNeeds& needs);

/// Read and check the answers to these requests. The checks: an answer that echoes the ids echoes those that were sent;
/// every row has its entry; a log-probability is a number <= 1e-3 (values above 0 are kept as 0); the probabilities of
/// a row add up to at most 1.001; a row lists K tokens, or K tokens and the actual one. A value <= -9999 is read as
/// -infinity. UnreadableAnswer: the body is not valid JSON or safetensors. RemoteError, naming the position: every
/// other fault. `where` (the URL) opens the message.
RemoteRows read_vllm(const std::string& body, const ScoredDocument& document, const RemoteNeeds& needs,
                     const std::string& where);
RemoteRows read_sglang(const std::string& body, const ScoredDocument& document, const RemoteNeeds& needs,
                       const std::string& where);
RemoteRows read_llama_cpp(const std::string& body, const ScoredDocument& document, std::size_t row,
                          const RemoteNeeds& needs, const std::string& where);
RemoteRows read_kdlib(const std::string& body, std::span<const ScoredDocument> documents, const RemoteNeeds& needs,
                      const std::string& where);

/// Returns the SHA-256 of documents and rows. An answer of `serve --teacher` carries this hash to say which documents
/// it is about. The hash covers, for each document, the number of ids (int64), the ids (int32), the number of rows
/// (int64) and the rows (int64), all little-endian.
std::string scored_hash(std::span<const ScoredDocument> documents);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_answers_inl.hpp"
#endif

#endif
