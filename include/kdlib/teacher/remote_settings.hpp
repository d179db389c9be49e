// SPDX-License-Identifier: Apache-2.0
// Where a teacher on another machine is, which interface its server speaks, and how patient its client is.
#ifndef KDLIB_TEACHER_REMOTE_SETTINGS_HPP
#define KDLIB_TEACHER_REMOTE_SETTINGS_HPP

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// The interface of a teacher's server.
enum class Dialect : std::uint8_t {
  automatic,  // the server is asked
  vllm,       // POST /v1/completions with prompt_logprobs
  sglang,     // POST /generate with return_logprob
  llama_cpp,  // POST /completion, one next token a request: for tests
  kdlib       // POST /v1/teacher/rows of `serve --teacher`: hidden states, too
};
constexpr std::array<const char*, 5> enum_names(Dialect) { return {"auto", "vllm", "sglang", "llama_cpp", "kdlib"}; }

/// How hidden states travel.
enum class RemotePrecision : std::uint8_t {
  f32,  // as the teacher computed them: training equals that with a LiveTeacher, bit for bit
  bf16  // half the bytes; the loss moves by up to 2e-3
};
constexpr std::array<const char*, 2> enum_names(RemotePrecision) { return {"f32", "bf16"}; }

/// A server that answers wrongly, or not at all. `status` is that of HTTP, 0 where no answer came.
class RemoteError : public Error {
 public:
  RemoteError(const std::string& what, int status = 0) : Error(what), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

/// A teacher that servers have in memory. All URLs lead to the same model: requests take turns between them.
struct RemoteTeacherSettings {
  std::vector<std::string> urls{};  // "http://10.0.0.5:8000", without a path
  Dialect dialect = Dialect::automatic;
  std::string model{};          // as the server calls it; empty: the only one that it has
  std::int64_t vocabulary = 0;  // ids of the student: what the server says of others is dropped. Needed, except
                                // with the dialect kdlib, whose server says how many its teacher has
  std::int64_t top_k = 20;      // > 0, of TopKTargets: the teacher's most probable tokens of each row
  RemotePrecision precision = RemotePrecision::f32;  // of HiddenTargets
  std::int64_t in_flight = 4;                        // > 0, requests at once to each server
  double connect_seconds = 10;                       // > 0
  double read_seconds = 600;                         // > 0, of one request from its start to its last byte
  int attempts = 5;                                  // > 0, of one request in all
  std::string key_environment{};  // the environment variable with the key of the servers; empty: they need none
  std::uint64_t seed = 1;         // of the jitter between attempts
  std::int64_t answer_bytes = std::int64_t{4} << 30;  // > 0, largest answer
};

/// A place that is the URL of servers, not a path: "http://10.0.0.5:8000,http://10.0.0.6:8000".
bool names_servers(std::string_view place);
/// The addresses in a text with commas between.
std::vector<std::string> split_urls(const std::string& text);

/// ConfigError naming the setting: no URL, one that is no http:// or https:// address of a server, numbers out of
/// range.
void check_remote_settings(const RemoteTeacherSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_settings_inl.hpp"
#endif

#endif
