// SPDX-License-Identifier: Apache-2.0
// Time that a test moves itself, and a transport without sockets that lives by it.
#ifndef KDLIB_TESTS_SUPPORT_REMOTE_CLOCK_HPP
#define KDLIB_TESTS_SUPPORT_REMOTE_CLOCK_HPP

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "kdlib/teacher/remote_calls.hpp"

namespace kdlib_tests {

/// Moves when a client pauses, and when it is told.
class SteppedClock {
 public:
  kdlib::RemoteClock clock() {
    return {[this] { return now(); },
            [this](double seconds) {
              pauses.push_back(seconds);
              advance(seconds);
            }};
  }
  double now() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return now_;
  }
  void advance(double seconds) {
    const std::lock_guard<std::mutex> lock(mutex_);
    now_ += seconds;
  }
  std::vector<double> pauses;  // written by the client's thread: read when nothing runs

 private:
  mutable std::mutex mutex_;
  double now_ = 100;
};

/// Answers at once, or, where `answer` gives status 0 without a failure, never: poll() then moves the clock by all that
/// it may wait.
class SilentTransport final : public kdlib::HttpTransport {
 public:
  using Answer = std::function<kdlib::HttpReply(const kdlib::HttpRequest&, std::int64_t number)>;
  SilentTransport(SteppedClock& clock, Answer answer) : clock_(clock), answer_(std::move(answer)) {}

  void start(std::uint64_t id, const std::string&, const kdlib::HttpRequest& request) override {
    replies_[id] = answer_(request, started_++);
  }
  std::optional<std::uint64_t> poll(double seconds, kdlib::HttpReply& reply) override {
    for (auto& [id, known] : replies_) {
      if (known.status == 0 && known.failure.empty()) continue;
      const std::uint64_t number = id;
      reply = std::move(known);
      replies_.erase(number);
      return number;
    }
    clock_.advance(seconds);
    return std::nullopt;
  }
  void cancel(std::uint64_t id) override { cancelled += static_cast<int>(replies_.erase(id)); }
  void wake() override {}

  int cancelled = 0;

 private:
  SteppedClock& clock_;
  Answer answer_;
  std::map<std::uint64_t, kdlib::HttpReply> replies_;
  std::int64_t started_ = 0;
};

}  // namespace kdlib_tests

#endif
