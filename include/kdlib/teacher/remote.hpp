// SPDX-License-Identifier: Apache-2.0
// A teacher that a server has in memory: vLLM, SGLang, llama.cpp's, or `serve --teacher`. Opt-in; it needs the CMake
// component `remote` (libcurl).
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

/// What a server says of itself at the start.
struct RemoteFacts {
  Dialect dialect = Dialect::automatic;  // found, where it was to be found
  std::string model{};                   // as the server calls it
  std::int64_t vocabulary = 0;           // of the teacher; 0: it does not say
  std::int64_t context_length = 0;       // tokens; 0: it does not say
  // Dialect kdlib alone:
  std::int64_t hidden_size = 0;
  std::string model_hash{}, tokenizer_hash{};  // content_hash of the model, tokenizer_hash(); empty: not said
  std::vector<std::int32_t> end_ids{};
};

/// The transport that `kdlib::remote` brings. BackendError in a program without it.
std::unique_ptr<HttpTransport> make_http_transport(const RemoteTeacherSettings& settings);

/// What the server at urls[0] speaks: it is asked. ConfigError: none of the known interfaces is there.
Dialect find_dialect(const RemoteTeacherSettings& settings);

namespace detail {
/// One request, waited for: its body. `status`, where given, takes that of HTTP instead of an error (404, 405, 400 and
/// 501 only).
std::string ask_server(RemoteCalls& calls, const HttpRequest& request, int* status = nullptr);
Dialect find_dialect(RemoteCalls& calls, const std::string& url);
}  // namespace detail

/// A client of one teacher, shared by the copies of a RemoteTeacher. The constructor asks the servers who they are and
/// scores three tokens. ConfigError: settings, an unknown model, a dialect that cannot be found or cannot give what is
/// wanted. RemoteError: no or wrong answers, in a sentence that names server and cause.
class RemoteClient {
 public:
  RemoteClient(const RemoteTeacherSettings& settings, RemoteWant want, std::unique_ptr<HttpTransport> transport,
               RemoteClock clock = {});

  const RemoteTeacherSettings& settings() const { return settings_; }
  const RemoteFacts& facts() const { return facts_; }
  const RemoteNeeds& needs() const { return needs_; }
  std::string name() const;
  RemoteUse use() const { return calls_.use(); }

  /// Documents on their way.
  struct Ticket {
    TokenBatch batch{};                    // ids and offsets alone
    std::vector<std::int64_t> token{};     // of the rows, as TokenBatch::Rows has them
    std::vector<std::uint64_t> numbers{};  // of the requests
    std::shared_ptr<RemoteRows> rows = std::make_shared<RemoteRows>();
  };
  /// Sends the rows of a batch. InputError: ids beyond the vocabulary, documents beyond the context.
  Ticket send(const TokenBatch& batch);
  /// The same at another temperature, for the probe.
  Ticket send(const TokenBatch& batch, const RemoteNeeds& needs);
  /// Waits for all of them. On an error the others are forgotten.
  void wait(Ticket& ticket);
  void forget(Ticket& ticket);

  /// One request outside of a batch, waited for: its body.
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

/// Scalar and device of targets on the host and on a device.
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

/// A TeacherSource whose rows come over the wire. Targets: SampledTargets, TopKTargets<T, D>, or HiddenTargets<T, D>
/// (dialect kdlib alone; the head is fetched once). Log-probabilities are those at temperature 1.
///
/// announce(batch), which a training run calls as soon as it has fetched a batch, sends the requests; prepare(batch)
/// waits for them, or sends them itself. With f32 rows of `serve --teacher` targets are LiveTeacher's, bit for bit.
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

  /// Asks the servers who they are (RemoteClient).
  explicit RemoteTeacher(const RemoteTeacherSettings& settings)
      : RemoteTeacher(settings, make_http_transport(settings)) {}
  /// With another transport or clock.
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
  /// As Decoder::set_real_vocabulary, of hidden states: ids from `ids` on stay outside the softmax.
  void set_real_vocabulary(std::int64_t ids) requires(hidden) { head_->real_vocabulary = ids; }

  /// Sends the rows of the batch and returns.
  void announce(const TokenBatch& batch);
  /// Waits for the rows of the batch. RemoteError naming server and position.
  void prepare(const TokenBatch& batch);
  /// Rows [begin, begin + count) of the prepared batch; valid until the next prepare().
  targets_type targets(std::int64_t begin, std::int64_t count) const;

  /// The model, its vocabulary and what is taken of a row, so that a run does not go on with another teacher. Not where
  /// the servers are.
  SettingsList describe() const;

 private:
  void fetch_head();
  void keep(const RemoteRows& rows, std::span<const std::int64_t> chosen);
  void forget_announced();

  std::shared_ptr<RemoteClient> client_;
  std::shared_ptr<CachedHead<T, D>> head_;  // of hidden states
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
