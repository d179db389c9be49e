// SPDX-License-Identifier: Apache-2.0
// Requests to the servers of one teacher: so many at once, again after a fault, in a thread of their own.
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

/// One request. `path` begins with '/'; the body is JSON.
struct HttpRequest {
  std::string method = "GET", path{}, body{};
};

/// What came back.
struct HttpReply {
  int status = 0;  // 0: no whole answer came
  std::string body{};
  double retry_after = 0;  // seconds, as the server asks; 0: it does not
  std::string failure{};   // with status 0: why, in words
  bool final = false;      // with status 0: another attempt cannot help
};

/// Carries requests. All calls but wake() come from one thread.
class HttpTransport {
 public:
  virtual ~HttpTransport() = default;
  /// Begins a request to the server at `url`. `id` is no other running request's.
  virtual void start(std::uint64_t id, const std::string& url, const HttpRequest& request) = 0;
  /// Waits up to `seconds` for one request to end and answers its id, or nothing.
  virtual std::optional<std::uint64_t> poll(double seconds, HttpReply& reply) = 0;
  /// Forgets a running request.
  virtual void cancel(std::uint64_t id) = 0;
  /// From another thread: a running or the next poll() returns at once.
  virtual void wake() = 0;
};

/// Time, so that tests need not wait.
struct RemoteClock {
  std::function<double()> now{};        // seconds that only go forward; empty: the machine's
  std::function<void(double)> pause{};  // called when nothing runs and an attempt is due in so many seconds; empty:
                                        // the thread waits
};

/// What a client did so far.
struct RemoteUse {
  std::int64_t requests = 0;      // ended, well or not
  std::int64_t attempts = 0;      // sent
  std::int64_t most_at_once = 0;  // running at one server
  std::int64_t bytes = 0;         // of all bodies that came
  double waited_seconds = 0;      // in wait()
};

/// Reads the body of an answer with status 200. It may throw UnreadableAnswer, after which the request is sent again,
/// or any other exception, which ends it: what a server says wrongly it would say again.
using AnswerReader = std::function<void(const HttpReply&)>;

/// An answer that is no whole JSON or safetensors text: transport may have cut it.
class UnreadableAnswer : public FormatError {
 public:
  using FormatError::FormatError;
};

/// The delay before attempt number `attempt` (2 and above) of request `number`: 1, 2, 4, 8 ... seconds, times 0.75 to
/// 1.25 by Philox, at least what the server asked for, at most `most`.
double retry_delay(std::uint64_t seed, std::uint64_t number, int attempt, double asked, double most);

namespace detail {
class CallQueue;
}  // namespace detail

/// Sends requests from a thread of its own. At most `in_flight` run at each server; attempt a of request n goes to
/// server (n + a) mod servers. Sent again: no answer, 408, 429, 500, 502, 503, 504, an unreadable answer; everything
/// else ends the request. Requests may be made by several threads.
class RemoteCalls {
 public:
  RemoteCalls(const RemoteTeacherSettings& settings, std::unique_ptr<HttpTransport> transport, RemoteClock clock = {});
  RemoteCalls(const RemoteCalls&) = delete;
  RemoteCalls& operator=(const RemoteCalls&) = delete;
  /// What still runs is dropped.
  ~RemoteCalls();

  /// Takes the request and returns at once. `read` is called in the other thread.
  std::uint64_t submit(HttpRequest request, AnswerReader read);
  /// Returns when the request has ended well; throws what it ended with: RemoteError, or what `read` threw. Once for
  /// each request. StopRequested where the calling thread is to stop; the request goes on.
  void wait(std::uint64_t number);
  /// Neither the answer nor an error of the request is wanted any more.
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
