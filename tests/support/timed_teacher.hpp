// SPDX-License-Identifier: Apache-2.0
// A training step in a time of its own: writing a batch and scoring a document each take as long as a test says, on any
// machine.
#ifndef KDLIB_TESTS_SUPPORT_TIMED_TEACHER_HPP
#define KDLIB_TESTS_SUPPORT_TIMED_TEACHER_HPP

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "kdlib/teacher/remote.hpp"
#include "support/fake_teacher.hpp"

namespace kdlib_tests {

/// Time that stands still but where it is moved: by somebody who works, or, while somebody waits for an answer, to the
/// next one.
class VirtualTime {
 public:
  double now() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return now_;
  }
  void work(double seconds) {
    const std::lock_guard<std::mutex> lock(mutex_);
    now_ += seconds;
    changed_.notify_all();
  }
  void set_waiting(bool waiting) {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_ = waiting;
    changed_.notify_all();
  }
  /// Until the transport has begun so many requests in all.
  void wait_for_started(std::int64_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return started_ >= count; });
  }
  std::int64_t started() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return started_;
  }

 private:
  friend class TimedTransport;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  double now_ = 0;
  bool waiting_ = false, woken_ = false;
  std::int64_t started_ = 0;
};

/// A teacher of the formula that takes `seconds` for each request.
class TimedTransport final : public kdlib::HttpTransport {
 public:
  TimedTransport(VirtualTime& time, double seconds) : time_(time), seconds_(seconds) {}

  void start(std::uint64_t id, const std::string&, const kdlib::HttpRequest& request) override {
    FakeRequest asked;
    asked.path = request.path;
    asked.body = request.body;
    FakeReply reply = formula_.answer(asked);
    const std::lock_guard<std::mutex> lock(time_.mutex_);
    running_[id] = {time_.now_ + seconds_, {reply.status, std::move(reply.body)}};
    ++time_.started_;
    time_.changed_.notify_all();
  }
  std::optional<std::uint64_t> poll(double, kdlib::HttpReply& reply) override {
    std::unique_lock<std::mutex> lock(time_.mutex_);
    for (;;) {
      auto first = running_.begin();
      for (auto at = running_.begin(); at != running_.end(); ++at)
        if (at->second.first < first->second.first) first = at;
      if (first != running_.end() && time_.waiting_ && !time_.woken_)
        time_.now_ = std::max(time_.now_, first->second.first);
      if (first != running_.end() && first->second.first <= time_.now_) {
        const std::uint64_t id = first->first;
        reply = std::move(first->second.second);
        running_.erase(first);
        return id;
      }
      if (std::exchange(time_.woken_, false)) return std::nullopt;
      time_.changed_.wait(lock);
    }
  }
  void cancel(std::uint64_t id) override { running_.erase(id); }
  void wake() override {
    const std::lock_guard<std::mutex> lock(time_.mutex_);
    time_.woken_ = true;
    time_.changed_.notify_all();
  }

 private:
  VirtualTime& time_;
  double seconds_;
  FormulaTeacher formula_;
  std::map<std::uint64_t, std::pair<double, kdlib::HttpReply>> running_;
};

/// A remote teacher in virtual time, announced to or not.
template <bool announces>
class TimedTeacher {
 public:
  using Teacher = kdlib::RemoteTeacher<kdlib::TopKTargets<float, kdlib::Cpu>>;
  using targets_type = Teacher::targets_type;

  TimedTeacher(Teacher teacher, VirtualTime& time) : teacher_(std::move(teacher)), time_(&time) {}
  std::int64_t vocab_size() const { return teacher_.vocab_size(); }
  void announce(const kdlib::TokenBatch& batch) requires(announces) {
    const std::int64_t before = time_->started();
    teacher_.announce(batch);
    time_->wait_for_started(before + batch.documents());  // the request is at the server now, not some time later
  }
  void prepare(const kdlib::TokenBatch& batch) {
    time_->set_waiting(true);
    teacher_.prepare(batch);
    time_->set_waiting(false);
  }
  targets_type targets(std::int64_t begin, std::int64_t count) const { return teacher_.targets(begin, count); }

 private:
  Teacher teacher_;
  VirtualTime* time_;
};

/// Batches that take time to write.
template <class Source>
class TimedSource {
 public:
  TimedSource(Source source, VirtualTime& time, double seconds)
      : source_(std::move(source)), time_(&time), seconds_(seconds) {}
  std::optional<kdlib::TokenBatch> next() {
    time_->work(seconds_);
    return source_.next();
  }
  std::string cursor() const { return source_.cursor(); }
  void seek(const std::string& cursor) { source_.seek(cursor); }

 private:
  Source source_;
  VirtualTime* time_;
  double seconds_;
};

}  // namespace kdlib_tests

#endif
