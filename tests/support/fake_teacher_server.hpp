// SPDX-License-Identifier: Apache-2.0
// A server on the loopback interface whose answers, faults included, a test writes.
#ifndef KDLIB_TESTS_SUPPORT_FAKE_TEACHER_SERVER_HPP
#define KDLIB_TESTS_SUPPORT_FAKE_TEACHER_SERVER_HPP

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace kdlib_tests {

/// A request as it arrived.
struct FakeRequest {
  std::string method, path, head, body;  // head: the whole header
  std::int64_t number = 0;               // of all requests of this server, from 0 on
};

/// An answer and what goes wrong with it.
struct FakeReply {
  int status = 200;
  std::string body{};
  std::string headers{};  // further lines, each with "\r\n" behind it
  std::int64_t cut = -1;  // bytes of the answer, its header included, after which the connection ends; -1: none
  bool reset = false;     // the connection ends by a reset, not in order
  bool chunked = false;   // sent in chunks of 7 bytes
};

class FakeTeacherServer {
 public:
  using Handler = std::function<FakeReply(const FakeRequest&)>;

  /// `handler` is called by the threads of the connections, not one after the other.
  explicit FakeTeacherServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (listener_ < 0 || ::bind(listener_, any, size) != 0 || ::listen(listener_, 128) != 0 ||
        ::getsockname(listener_, any, &size) != 0)
      throw std::runtime_error("the fake server cannot listen");
    port_ = ntohs(address.sin_port);
    accepter_ = std::thread([this] { accept_all(); });
  }
  FakeTeacherServer(const FakeTeacherServer&) = delete;
  FakeTeacherServer& operator=(const FakeTeacherServer&) = delete;
  ~FakeTeacherServer() {
    stop_ = true;
    release();
    ::shutdown(listener_, SHUT_RDWR);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (const int s : sockets_) ::shutdown(s, SHUT_RDWR);
    }
    accepter_.join();
    for (std::thread& t : threads_) t.join();
    ::close(listener_);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }
  /// Requests that arrived.
  std::int64_t requests() const { return requests_; }
  /// Largest number of requests that were being answered at once.
  std::int64_t most_at_once() const { return most_; }

  /// From now on answers wait for release().
  void hold() { held_ = true; }
  void release() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      held_ = false;
    }
    changed_.notify_all();
  }
  /// Returns when `count` requests have arrived; false after a minute.
  bool wait_for_requests(std::int64_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return requests_ >= count; });
  }

 private:
  void accept_all() {
    for (;;) {
      const int s = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (s < 0 && !stop_) continue;
      if (stop_) {
        if (s >= 0) ::close(s);
        return;
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      sockets_.push_back(s);
      threads_.emplace_back([this, s] { serve(s); });
    }
  }

  void serve(int s) {
    std::string buffer;
    FakeRequest request;
    while (!stop_ && read_request(s, buffer, request)) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        request.number = requests_++;
        const std::int64_t now = ++at_once_;
        if (now > most_) most_ = now;
        changed_.notify_all();
        changed_.wait(lock, [this] { return !held_ || stop_; });
      }
      const FakeReply reply = handler_(request);
      --at_once_;  // before the answer: the client may send the next request as soon as it has it
      if (!send_reply(s, reply)) break;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    std::erase(sockets_, s);
    ::close(s);
  }

  bool read_request(int s, std::string& buffer, FakeRequest& request) {
    std::size_t end = 0;
    while ((end = buffer.find("\r\n\r\n")) == std::string::npos)
      if (!read_more(s, buffer)) return false;
    request.head = buffer.substr(0, end + 2);
    buffer.erase(0, end + 4);
    const std::size_t blank = request.head.find(' ');
    request.method = request.head.substr(0, blank);
    request.path = request.head.substr(blank + 1, request.head.find(' ', blank + 1) - blank - 1);
    std::size_t size = 0;
    if (const std::size_t at = request.head.find("Content-Length: "); at != std::string::npos)
      size = std::stoul(request.head.substr(at + 16));
    while (buffer.size() < size)
      if (!read_more(s, buffer)) return false;
    request.body = buffer.substr(0, size);
    buffer.erase(0, size);
    return true;
  }

  static bool read_more(int s, std::string& buffer) {
    char bytes[65536];
    const ssize_t got = ::recv(s, bytes, sizeof bytes, 0);
    if (got > 0) buffer.append(bytes, static_cast<std::size_t>(got));
    return got > 0;
  }

  /// False where the connection is to end.
  static bool send_reply(int s, const FakeReply& reply) {
    std::string text = "HTTP/1.1 " + std::to_string(reply.status) + " Status\r\n" + reply.headers;
    if (!reply.chunked) {
      text += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n\r\n" + reply.body;
    } else {
      text += "Transfer-Encoding: chunked\r\n\r\n";
      for (std::size_t at = 0; at < reply.body.size(); at += 7) {
        const std::string piece = reply.body.substr(at, 7);
        text += std::to_string(piece.size()) + "\r\n" + piece + "\r\n";
      }
      text += "0\r\n\r\n";
    }
    const bool cut = reply.cut >= 0 && reply.cut < static_cast<std::int64_t>(text.size());
    if (cut) text.resize(static_cast<std::size_t>(reply.cut));
    for (std::size_t sent = 0; sent < text.size();) {
      const ssize_t n = ::send(s, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += static_cast<std::size_t>(n);
    }
    if (reply.reset) {
      const linger now{1, 0};
      ::setsockopt(s, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    return !cut && !reply.reset;
  }

  Handler handler_;
  int listener_ = -1, port_ = 0;
  std::thread accepter_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> threads_;
  std::vector<int> sockets_;
  std::atomic<bool> stop_{false}, held_{false};
  std::atomic<std::int64_t> requests_{0}, at_once_{0}, most_{0};
};

}  // namespace kdlib_tests

#endif
