// SPDX-License-Identifier: Apache-2.0
// Bodies of remote_calls.hpp.
#ifndef KDLIB_TEACHER_REMOTE_CALLS_INL_HPP
#define KDLIB_TEACHER_REMOTE_CALLS_INL_HPP

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "kdlib/core/clock.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/teacher/remote_calls.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC bool is_passing_status(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

/// The sentence in a server's error document, or the beginning of what it sent.
KDLIB_FUNC std::string server_message(const std::string& body) {
  std::string text;
  try {
    const Json json = Json::parse(body, "answer");
    for (const Json& at : {json, json.find("error").value_or(Json())})
      for (const char* key : {"message", "detail", "error"})
        if (const auto found = at.find(key); found && found->is_string()) text = std::string(found->as_string());
  } catch (const FormatError&) {
    text = body;
  }
  return printable(text, 300);
}

/// What a status means for the user of a teacher.
KDLIB_FUNC std::string status_text(int status, const std::string& body, bool has_key) {
  const std::string said = server_message(body);
  std::string out = concat("the server answers ", status, said.empty() ? "" : ": " + said);
  if (status == 401 || status == 403)
    out += has_key ? "; the key in the environment variable is not the server's"
                   : "; the server wants a key: name the environment variable that holds it";
  else if (status == 404) out += "; is this the right server and dialect, and is the model's name the server's?";
  return out;
}

/// What a RemoteCalls has inside.
class CallQueue {
 public:
  CallQueue(const RemoteTeacherSettings& settings, std::unique_ptr<HttpTransport> transport, RemoteClock clock);
  CallQueue(const CallQueue&) = delete;
  CallQueue& operator=(const CallQueue&) = delete;
  ~CallQueue();
  std::uint64_t submit(HttpRequest request, AnswerReader read);
  void wait(std::uint64_t number);
  void forget(std::uint64_t number);
  RemoteUse use() const;

 private:
  struct Call {
    std::uint64_t number = 0;
    HttpRequest request{};
    AnswerReader read{};
    int attempt = 0;      // sent so far
    double due = 0;       // of the next attempt
    double deadline = 0;  // of the running attempt
    std::size_t server = 0;
    std::string last{};  // how the last attempt failed
    bool forgotten = false;
  };
  using Lock = std::unique_lock<std::mutex>;

  void run();
  void start_due(Lock& lock);
  double patience() const;
  void wait_for_work(Lock& lock);
  void attend(Lock& lock);
  void expire(Lock& lock);
  void finish(std::uint64_t number, HttpReply reply, Lock& lock);
  void settle(const Call& call, std::exception_ptr error);
  void try_again(Call call, const HttpReply& reply);
  const std::string& url_of(const Call& call) const { return settings_.urls[call.server]; }
  double now() const;

  const RemoteTeacherSettings settings_;
  std::unique_ptr<HttpTransport> transport_;
  RemoteClock clock_;
  mutable std::mutex mutex_;
  std::condition_variable work_, ended_;
  std::uint64_t next_ = 1;
  std::list<Call> waiting_;                           // in the order of their numbers
  std::map<std::uint64_t, Call> running_;             // by number
  std::vector<std::int64_t> at_once_;                 // running, by server
  std::map<std::uint64_t, std::exception_ptr> done_;  // ended and not asked for yet; nullptr: well
  RemoteUse use_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace detail

KDLIB_FUNC double retry_delay(std::uint64_t seed, std::uint64_t number, int attempt, double asked, double most) {
  const Rng rng(seed, RngPurpose::retry_delay, static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(attempt));
  const double delay = std::ldexp(0.75 + 0.5 * rng.uniform(0), std::min(attempt - 2, 20));
  return std::min(std::max(delay, asked), most);
}

namespace detail {

KDLIB_FUNC CallQueue::CallQueue(const RemoteTeacherSettings& settings, std::unique_ptr<HttpTransport> transport,
                                RemoteClock clock)
    : settings_(settings), transport_(std::move(transport)), clock_(std::move(clock)) {
  check_remote_settings(settings_);
  at_once_.resize(settings_.urls.size());
  thread_ = std::thread([this] { run(); });
}

KDLIB_FUNC CallQueue::~CallQueue() {
  {
    const Lock lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  transport_->wake();
  thread_.join();
}

KDLIB_FUNC double CallQueue::now() const {
  if (clock_.now) return clock_.now();
  return steady_seconds();
}

KDLIB_FUNC std::uint64_t CallQueue::submit(HttpRequest request, AnswerReader read) {
  Call call;
  call.request = std::move(request);
  call.read = std::move(read);
  std::uint64_t number = 0;
  {
    const Lock lock(mutex_);
    number = call.number = next_++;
    call.server = number % settings_.urls.size();
    waiting_.push_back(std::move(call));
  }
  work_.notify_all();
  transport_->wake();
  return number;
}

KDLIB_FUNC void CallQueue::wait(std::uint64_t number) {
  const auto begin = std::chrono::steady_clock::now();
  Lock lock(mutex_);
  auto at = done_.find(number);
  while (at == done_.end()) {
    lock.unlock();
    check_stop();
    lock.lock();
    ended_.wait_for(lock, std::chrono::milliseconds(50), [&] { return (at = done_.find(number)) != done_.end(); });
  }
  const std::exception_ptr error = at->second;
  done_.erase(at);
  use_.waited_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  lock.unlock();
  if (error) std::rethrow_exception(error);
}

KDLIB_FUNC void CallQueue::forget(std::uint64_t number) {
  const Lock lock(mutex_);
  done_.erase(number);
  if (const auto at = running_.find(number); at != running_.end()) at->second.forgotten = true;
  waiting_.remove_if([number](const Call& call) { return call.number == number; });
}

KDLIB_FUNC RemoteUse CallQueue::use() const {
  const Lock lock(mutex_);
  return use_;
}

KDLIB_FUNC void CallQueue::run() {
  Lock lock(mutex_);
  while (!stop_) {
    start_due(lock);
    if (running_.empty()) wait_for_work(lock);
    else attend(lock);
  }
  for (const auto& [number, call] : running_) transport_->cancel(number);
}

/// Starts what is due and has a place at its server.
KDLIB_FUNC void CallQueue::start_due(Lock&) {
  const double time = now();
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const auto next = std::next(at);
    if (at->due <= time && at_once_[at->server] < settings_.in_flight) {
      Call call = std::move(*at);
      waiting_.erase(at);
      ++call.attempt;
      ++use_.attempts;
      use_.most_at_once = std::max(use_.most_at_once, ++at_once_[call.server]);
      call.deadline = time + settings_.read_seconds;
      const std::uint64_t number = call.number;
      const Call& kept = running_[number] = std::move(call);
      transport_->start(number, url_of(kept), kept.request);
    }
    at = next;
  }
}

/// Nothing runs: until a request comes or is due again.
KDLIB_FUNC void CallQueue::wait_for_work(Lock& lock) {
  if (waiting_.empty()) {
    work_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    return;
  }
  double due = waiting_.front().due;
  for (const Call& call : waiting_) due = std::min(due, call.due);
  const double seconds = due - now();
  if (seconds <= 0) return;
  if (!clock_.pause) {
    work_.wait_for(lock, std::chrono::duration<double>(std::min(seconds, 60.0)));
    return;
  }
  lock.unlock();
  clock_.pause(seconds);
  lock.lock();
}

/// Seconds until something else than an answer is to be looked at.
KDLIB_FUNC double CallQueue::patience() const {
  const double time = now();
  double seconds = 60;
  for (const auto& [number, call] : running_) seconds = std::min(seconds, call.deadline - time);
  for (const Call& call : waiting_)
    if (call.due > time) seconds = std::min(seconds, call.due - time);
  return std::max(0.0, seconds);
}

KDLIB_FUNC void CallQueue::attend(Lock& lock) {
  const double seconds = patience();
  lock.unlock();
  HttpReply reply;
  const std::optional<std::uint64_t> number = transport_->poll(seconds, reply);
  lock.lock();
  if (number) finish(*number, std::move(reply), lock);
  expire(lock);
}

/// Ends attempts that have run too long.
KDLIB_FUNC void CallQueue::expire(Lock& lock) {
  const double time = now();
  std::vector<std::uint64_t> late;
  for (const auto& [number, call] : running_)
    if (call.deadline <= time) late.push_back(number);
  for (const std::uint64_t number : late) {
    transport_->cancel(number);
    HttpReply reply;
    reply.failure = concat("no whole answer within ", settings_.read_seconds, " seconds");
    finish(number, std::move(reply), lock);
  }
}

KDLIB_FUNC void CallQueue::settle(const Call& call, std::exception_ptr error) {
  ++use_.requests;
  if (!call.forgotten) done_[call.number] = std::move(error);
  ended_.notify_all();
}

KDLIB_FUNC void CallQueue::try_again(Call call, const HttpReply& reply) {
  call.due =
      now() + retry_delay(settings_.seed, call.number, call.attempt + 1, reply.retry_after, settings_.read_seconds);
  call.server = (call.number + static_cast<std::uint64_t>(call.attempt)) % settings_.urls.size();
  const auto behind =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const Call& other) { return other.number > call.number; });
  waiting_.insert(behind, std::move(call));
}

KDLIB_FUNC void CallQueue::finish(std::uint64_t number, HttpReply reply, Lock& lock) {
  const auto at = running_.find(number);
  if (at == running_.end()) return;
  Call call = std::move(at->second);
  running_.erase(at);
  --at_once_[call.server];
  use_.bytes += static_cast<std::int64_t>(reply.body.size());
  if (call.forgotten) return settle(call, nullptr);
  bool again = false;
  std::string why;
  if (reply.status == 200) {
    std::exception_ptr error;
    lock.unlock();
    try {
      call.read(reply);
    } catch (const UnreadableAnswer& unreadable) {
      again = true;
      why = unreadable.what();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (!again) return settle(call, error);
  } else if (reply.status == 0) {
    again = !reply.final;
    why = reply.failure;
  } else {
    again = is_passing_status(reply.status);
    why = status_text(reply.status, reply.body, !settings_.key_environment.empty());
  }
  if (again && call.attempt < settings_.attempts) return try_again(std::move(call), reply);
  const std::string count = again && settings_.attempts > 1 ? concat(" (", call.attempt, " attempts)") : "";
  settle(call, std::make_exception_ptr(RemoteError(
                   concat("[RemoteTeacher] ", url_of(call), call.request.path, ": ", why, count), reply.status)));
}

}  // namespace detail

KDLIB_FUNC RemoteCalls::RemoteCalls(const RemoteTeacherSettings& settings, std::unique_ptr<HttpTransport> transport,
                                    RemoteClock clock)
    : queue_(std::make_unique<detail::CallQueue>(settings, std::move(transport), std::move(clock))) {}
KDLIB_FUNC RemoteCalls::~RemoteCalls() = default;
KDLIB_FUNC std::uint64_t RemoteCalls::submit(HttpRequest request, AnswerReader read) {
  return queue_->submit(std::move(request), std::move(read));
}
KDLIB_FUNC void RemoteCalls::wait(std::uint64_t number) { queue_->wait(number); }
KDLIB_FUNC void RemoteCalls::forget(std::uint64_t number) { queue_->forget(number); }
KDLIB_FUNC RemoteUse RemoteCalls::use() const { return queue_->use(); }

KDLIB_NAMESPACE_END

#endif
