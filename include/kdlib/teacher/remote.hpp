// SPDX-License-Identifier: Apache-2.0
// A teacher that a server holds in memory. The server is vLLM, SGLang, the server of llama.cpp, or `serve --teacher` of
// kdlib. Opt-in: it needs the CMake component `remote` (libcurl).
#ifndef KDLIB_TEACHER_REMOTE_HPP
#define KDLIB_TEACHER_REMOTE_HPP

#include <concepts>
#include <deque>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/loss/top_k.hpp"
#include "kdlib/teacher/cache_head.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/teacher/remote_answers.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a server says of itself when a client starts.
struct RemoteFacts {
  Dialect dialect = Dialect::automatic;  // the dialect of the server, never `automatic`
  std::string model{};                   // the server's name for the model
  std::int64_t vocabulary = 0;           // ids of the teacher; 0: the server does not say
  std::int64_t context_length = 0;       // tokens; 0: the server does not say
  // The following members are for the dialect kdlib only:
  std::int64_t hidden_size = 0;
  std::string model_hash{}, tokenizer_hash{};  // content_hash and tokenizer_hash(); empty: not told
  std::vector<std::int32_t> end_ids{};
};

/// Returns the transport of the component `kdlib::remote`. BackendError: the program was built without this component.
std::unique_ptr<HttpTransport> make_http_transport(const RemoteTeacherSettings& settings);

/// Asks the server at urls[0] which interfaces it offers and returns the dialect. ConfigError: the server offers none
/// of the known interfaces.
Dialect find_dialect(const RemoteTeacherSettings& settings);

namespace detail {
/// Sends one request, waits for the answer and returns its body. If `status` is given, it receives the status of HTTP:
/// 200, or 404, 405, 400 or 501 (then the body is empty) instead of an error.
std::string ask_server(RemoteCalls& calls, const HttpRequest& request, int* status = nullptr);
Dialect find_dialect(RemoteCalls& calls, const std::string& url);
}  // namespace detail

/// A client of one teacher, shared by the copies of a RemoteTeacher. The constructor asks the first server which model
/// it has and, as a test, requests the rows of three tokens. ConfigError: a setting is wrong, the model is unknown, or
/// the dialect cannot be found or cannot give what is wanted. RemoteError: there is no answer or a wrong answer; the
/// message names server and cause.
class RemoteClient {
 public:
  RemoteClient(const RemoteTeacherSettings& settings, RemoteWant want, std::unique_ptr<HttpTransport> transport,
               RemoteClock clock = {});

  const RemoteTeacherSettings& settings() const { return settings_; }
  const RemoteFacts& facts() const { return facts_; }
  const RemoteNeeds& needs() const { return needs_; }
  std::string name() const;
  RemoteUse use() const { return calls_.use(); }

  /// A batch whose answers are on their way.
  struct Ticket {
    TokenBatch batch{};                    // only ids and offsets are set
    std::vector<std::int64_t> token{};     // indices of the rows' tokens, as in TokenBatch::Rows
    std::vector<std::uint64_t> numbers{};  // numbers of the requests
    std::shared_ptr<RemoteRows> rows = std::make_shared<RemoteRows>();
  };
  /// Requests the rows of a batch and returns at once. InputError: an id is outside the vocabulary, or a document is
  /// longer than the server's context.
  Ticket send(const TokenBatch& batch);
  /// Does the same with other needs, for example another temperature (remote_probes.hpp).
  Ticket send(const TokenBatch& batch, const RemoteNeeds& needs);
  /// Waits for all answers of the ticket. If one request fails, the others are forgotten and the error is thrown.
  void wait(Ticket& ticket);
  void forget(Ticket& ticket);

  /// Sends one request that belongs to no batch, waits for the answer and returns its body.
  std::string ask(const HttpRequest& request) { return detail::ask_server(calls_, request); }

 private:
  void read_vllm_facts();
  void read_kdlib_facts();
  void check_wants();
  void score_three_tokens();
  void send_document(Ticket& ticket, const std::shared_ptr<const ScoredDocument>& document, std::int64_t begin,
                     const RemoteNeeds& needs);
  std::string where(const char* path) const { return settings_.urls[0] + path; }

  const RemoteTeacherSettings settings_;
  RemoteFacts facts_;
  RemoteNeeds needs_;
  RemoteCalls calls_;
};

namespace detail {
template <class X>
inline constexpr bool sends_top_k = false;
template <class T, class D>
inline constexpr bool sends_top_k<TopKTargets<T, D>> = true;
template <class X>
inline constexpr bool sends_hidden_states = false;
template <class T, class D>
inline constexpr bool sends_hidden_states<HiddenTargets<T, D>> = true;

/// The scalar type T and the device D of a type of targets; float and Cpu for targets without template arguments.
template <class X>
struct TargetsOf {
  using T = float;
  using D = Cpu;
};
template <template <class, class> class X, class T_, class D_>
struct TargetsOf<X<T_, D_>> {
  using T = T_;
  using D = D_;
};
}  // namespace detail

/// A TeacherSource whose rows come from a server. `Targets` is SampledTargets, TopKTargets<T, D> or HiddenTargets<T,
/// D>. Only the dialect kdlib gives HiddenTargets; the head is then fetched once. Log-probabilities are at temperature
/// 1.
///
/// A training run calls announce(batch) as soon as it has fetched a batch: this call sends the requests. prepare(batch)
/// waits for the answers, or first sends the requests if the batch was not announced. Hidden states in f32 from `serve
/// --teacher` are equal to LiveTeacher's, bit for bit.
template <class Targets>
class RemoteTeacher {
  static constexpr bool samples = std::is_same_v<Targets, SampledTargets>, top_k = detail::sends_top_k<Targets>,
                        hidden = detail::sends_hidden_states<Targets>;
  static_assert(samples || top_k || hidden,
                "kdlib: RemoteTeacher gives SampledTargets, TopKTargets<T, D> or HiddenTargets<T, D>: choose what the "
                "loss reads");
  using T = typename detail::TargetsOf<Targets>::T;
  using D = typename detail::TargetsOf<Targets>::D;

 public:
  using targets_type = Targets;
  static constexpr RemoteWant want = samples ? RemoteWant::sampled : top_k ? RemoteWant::top_k : RemoteWant::hidden;

  /// Connects to the servers as the constructor of RemoteClient does.
  explicit RemoteTeacher(const RemoteTeacherSettings& settings)
      : RemoteTeacher(settings, make_http_transport(settings)) {}
  /// Does the same with another transport or clock, for example in tests.
  RemoteTeacher(const RemoteTeacherSettings& settings, std::unique_ptr<HttpTransport> transport,
                RemoteClock clock = {});
  /// A copy shares the client and the head and starts without announced or prepared batches.
  RemoteTeacher(const RemoteTeacher& other) : client_(other.client_), head_(other.head_) {}
  RemoteTeacher& operator=(const RemoteTeacher& other);
  RemoteTeacher(RemoteTeacher&&) noexcept = default;
  RemoteTeacher& operator=(RemoteTeacher&&) noexcept = default;
  ~RemoteTeacher() { forget_announced(); }

  RemoteClient& client() { return *client_; }
  std::int64_t vocab_size() const { return client_->needs().vocabulary; }
  /// For hidden states: keeps ids at or above `ids` outside the softmax, as Decoder::set_real_vocabulary does.
  void set_real_vocabulary(std::int64_t ids) requires(hidden) { head_->real_vocabulary = ids; }

  /// Requests the rows of the batch and returns at once.
  void announce(const TokenBatch& batch);
  /// Waits for the rows of the batch. RemoteError names server and position.
  void prepare(const TokenBatch& batch);
  /// Returns rows [begin, begin + count) of the prepared batch, valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;

  /// Returns the model, its vocabulary and what is taken of a row, so that a resumed run notices another teacher. The
  /// addresses of the servers are not part of it.
  SettingsList describe() const;

 private:
  void fetch_head();
  void keep(const RemoteRows& rows, std::span<const std::int64_t> chosen);
  void forget_announced();

  std::shared_ptr<RemoteClient> client_;
  std::shared_ptr<CachedHead<T, D>> head_;  // only with HiddenTargets
  std::deque<RemoteClient::Ticket> announced_;
  std::vector<float> label_;           // [rows_]
  Tensor<std::int32_t, D> ids_;        // [rows_, K]
  Tensor<T, D> log_probs_, log_tail_;  // [rows_, K] and [rows_]
  Tensor<T, D> hidden_;                // [rows_, H]
  std::int64_t rows_ = 0;
};

KDLIB_NAMESPACE_END

#include "kdlib/teacher/remote_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_client_inl.hpp"
#endif
#if defined(KDLIB_WITH_REMOTE)
#include "kdlib/teacher/remote_curl_inl.hpp"
#endif

KDLIB_NAMESPACE_BEGIN

/// As declared above.
inline Dialect find_dialect(const RemoteTeacherSettings& settings) {
  RemoteCalls calls(settings, make_http_transport(settings));
  return detail::find_dialect(calls, settings.urls[0]);
}

/// As declared above.
inline std::unique_ptr<HttpTransport> make_http_transport(const RemoteTeacherSettings& settings) {
  check_remote_settings(settings);
#if defined(KDLIB_WITH_REMOTE)
  return std::make_unique<detail::CurlTransport>(settings);
#else
  fail<BackendError>("[RemoteTeacher] ", settings.urls[0],
                     " is asked for, and this program was built without libcurl: install libcurl4-openssl-dev (Debian "
                     "and Ubuntu), configure with KDLIB_REMOTE=ON and link kdlib::remote");
#endif
}

KDLIB_NAMESPACE_END

#endif
