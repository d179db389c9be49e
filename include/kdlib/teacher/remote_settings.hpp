// SPDX-License-Identifier: Apache-2.0
// Settings for a teacher on another machine: where it is, which interface its server speaks, and how long the client
// waits.
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
  automatic,  // the client asks the server
  vllm,       // POST /v1/completions with prompt_logprobs
  sglang,     // POST /generate with return_logprob
  llama_cpp,  // POST /completion, which gives one next token for each request; for tests
  kdlib       // POST /v1/teacher/rows of `serve --teacher`; gives hidden states, too
};
constexpr std::array<const char*, 5> enum_names(Dialect) { return {"auto", "vllm", "sglang", "llama_cpp", "kdlib"}; }

/// The scalar type in which hidden states are sent.
enum class RemotePrecision : std::uint8_t {
  f32,  // without loss: training is equal to that with a LiveTeacher, bit for bit
  bf16  // half the bytes; the loss moves by up to 2e-3
};
constexpr std::array<const char*, 2> enum_names(RemotePrecision) { return {"f32", "bf16"}; }

/// Thrown if a server answers wrongly or not at all. `status` is the status of HTTP, or 0 if no answer came.
class RemoteError : public Error {
 public:
  RemoteError(const std::string& what, int status = 0) : Error(what), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

/// Settings of a teacher that servers hold in memory. All URLs must lead to the same model; requests take turns between
/// them.
struct RemoteTeacherSettings {
  std::vector<std::string> urls{};  // "http://10.0.0.5:8000", without a path
  Dialect dialect = Dialect::automatic;
  std::string model{};          // the server's name for the model; empty: the server's only model
  std::int64_t vocabulary = 0;  // number of ids of the student; what the server says of other ids is dropped. Needed,
                                // except with the dialect kdlib, whose server tells the size of its vocabulary
  std::int64_t top_k = 20;      // K, > 0; for TopKTargets: the number of the teacher's most probable tokens of each row
  RemotePrecision precision = RemotePrecision::f32;  // for HiddenTargets
  std::int64_t in_flight = 4;                        // > 0; requests that run at once at each server
  double connect_seconds = 10;                       // > 0
  double read_seconds = 600;                         // > 0; limit for one request, from its start to its last byte
  int attempts = 5;                                  // > 0; most attempts of one request in all
  std::string key_environment{};  // name of the environment variable that holds the servers' key; empty: the servers
                                  // need no key
  std::uint64_t seed = 1;         // of the random part of the delay between attempts
  std::int64_t answer_bytes = std::int64_t{4} << 30;  // > 0; the largest answer that is accepted
};

/// True if `place` is the URL of one or more servers, not a path: "http://10.0.0.5:8000,http://10.0.0.6:8000".
bool names_servers(std::string_view place);
/// Splits a text at its commas into addresses.
std::vector<std::string> split_urls(const std::string& text);

/// Throws ConfigError, naming the setting, if there is no URL, if a URL is not an http:// or https:// address without a
/// path, or if a number is out of its range.
void check_remote_settings(const RemoteTeacherSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_settings_inl.hpp"
#endif

#endif
