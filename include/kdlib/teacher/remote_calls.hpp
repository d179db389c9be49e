// SPDX-License-Identifier: Apache-2.0
// Sends requests to the servers of one teacher from a separate thread: a limited number at once, and again after a
// fault.
#ifndef KDLIB_TEACHER_REMOTE_CALLS_HPP
#define KDLIB_TEACHER_REMOTE_CALLS_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/teacher/remote_settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// One request of HTTP. `path` begins with '/'; the body is JSON or empty.
struct HttpRequest {
  std::string method = "GET", path{}, body{};
};

/// The outcome of one request.
struct HttpReply {
  int status = 0;  // status of HTTP; 0: no complete answer came
  std::string body{};
  double retry_after = 0;  // seconds that the server asks the client to wait; 0: it does not ask
  std::string failure{};   // with status 0: the reason, in words
  bool final = false;      // with status 0: true if another attempt cannot help
};

/// Carries requests over the network. All calls except wake() come from one thread.
class HttpTransport {
 public:
  virtual ~HttpTransport() = default;
  /// Begins a request to the server at `url`. No other running request has the same `id`.
  virtual void start(std::uint64_t id, const std::string& url, const HttpRequest& request) = 0;
  /// Waits up to `seconds` for one request to end. Returns the id of this request and fills `reply`, or returns
  /// nothing.
  virtual std::optional<std::uint64_t> poll(double seconds, HttpReply& reply) = 0;
  /// Ends a running request without a reply.
  virtual void cancel(std::uint64_t id) = 0;
  /// May be called from another thread: the running poll(), or the next one, returns at once.
  virtual void wake() = 0;
};

/// A replacement for the clock, so that tests need not wait.
struct RemoteClock {
  std::function<double()> now{};  // seconds of a clock that never goes back; empty: the clock of the machine
  /// Called with the seconds until the next attempt, while no request runs. Empty: the thread sleeps.
  std::function<void(double)> pause{};
};

/// Counters of what a client did so far.
struct RemoteUse {
  std::int64_t requests = 0;      // requests that ended, with or without success
  std::int64_t attempts = 0;      // attempts that were sent
  std::int64_t most_at_once = 0;  // largest number of attempts that ran at one server at the same time
  std::int64_t bytes = 0;         // bytes of all bodies that came
  double waited_seconds = 0;      // seconds spent in wait()
};

/// Reads the body of an answer with status 200. If the function throws UnreadableAnswer, the request is sent again. Any
/// other exception ends the request, because a server that answers wrongly would repeat the wrong answer.
using AnswerReader = std::function<void(const HttpReply&)>;

/// Thrown for an answer that is not complete JSON or safetensors; the transport may have cut it off.
class UnreadableAnswer : public FormatError {
 public:
  using FormatError::FormatError;
};

/// Returns the delay in seconds before attempt number `attempt` (2 or above) of request `number`: 1, 2, 4, 8, ...
/// seconds times a random factor of 0.75 to 1.25 (Philox, from `seed`). The delay is at least `asked`, the time that
/// the server asked for, and at most `most`.
double retry_delay(std::uint64_t seed, std::uint64_t number, int attempt, double asked, double most);

namespace detail {
class CallQueue;
}  // namespace detail

/// Sends requests from a separate thread. At most `in_flight` requests run at each server; attempt a (from 0) of
/// request n goes to server number (n + a) mod the number of servers. A request is sent again if no answer came, if the
/// status is 408, 429, 500, 502, 503 or 504, or if the answer is unreadable. Everything else ends the request. Several
/// threads may make requests.
class RemoteCalls {
 public:
  RemoteCalls(const RemoteTeacherSettings& settings, std::unique_ptr<HttpTransport> transport, RemoteClock clock = {});
  RemoteCalls(const RemoteCalls&) = delete;
  RemoteCalls& operator=(const RemoteCalls&) = delete;
  /// Drops the requests that still run.
  ~RemoteCalls();

  /// Takes the request and returns its number at once. `read` is called in the sending thread.
  std::uint64_t submit(HttpRequest request, AnswerReader read);
  /// Waits for the end of a request. May be called once for each request. If the request failed, its error is thrown:
  /// RemoteError, or what `read` threw. StopRequested: the calling thread is asked to stop; the request goes on.
  void wait(std::uint64_t number);
  /// Says that neither the answer nor an error of the request is wanted any more.
  void forget(std::uint64_t number);

  RemoteUse use() const;

 private:
  std::unique_ptr<detail::CallQueue> queue_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_calls_inl.hpp"
#endif

#endif
