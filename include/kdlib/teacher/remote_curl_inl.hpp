// SPDX-License-Identifier: Apache-2.0
// HTTP by libcurl. Part of remote.hpp where the CMake component `remote` is linked (KDLIB_WITH_REMOTE).
#ifndef KDLIB_TEACHER_REMOTE_CURL_INL_HPP
#define KDLIB_TEACHER_REMOTE_CURL_INL_HPP

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>

#include "kdlib/teacher/remote_calls.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Several requests at once through one libcurl multi handle.
class CurlTransport final : public HttpTransport {
 public:
  explicit CurlTransport(const RemoteTeacherSettings& settings) : settings_(settings) {
    static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_ = started == CURLE_OK ? curl_multi_init() : nullptr;
    require<BackendError>(multi_ != nullptr, "[RemoteTeacher] libcurl ", curl_version(), " cannot be started",
                          errno == EMFILE ? ": no file descriptor is left (ulimit -n)" : "");
    if (settings.key_environment.empty()) return;
    const char* key = std::getenv(settings.key_environment.c_str());
    const bool given = key != nullptr && *key != '\0';
    if (!given) curl_multi_cleanup(multi_);
    require<ConfigError>(given, "[RemoteTeacher] the environment variable ", settings.key_environment,
                         " is to hold the servers' key, and it is not set");
    key_ = concat("Authorization: Bearer ", key);
  }
  CurlTransport(const CurlTransport&) = delete;
  CurlTransport& operator=(const CurlTransport&) = delete;
  ~CurlTransport() override {
    while (!running_.empty()) cancel(running_.begin()->first);
    curl_multi_cleanup(multi_);
  }

  void start(std::uint64_t id, const std::string& url, const HttpRequest& request) override {
    Transfer& t = running_[id];
    t.id = id;
    t.most = static_cast<std::size_t>(settings_.answer_bytes);
    t.sent = request.body;
    t.easy = curl_easy_init();
    if (t.easy == nullptr) return;  // poll() says so
    set_options(t, url, request);
    if (curl_multi_add_handle(multi_, t.easy) != CURLM_OK) t.broken = true;
  }

  std::optional<std::uint64_t> poll(double seconds, HttpReply& reply) override {
    if (const auto broken = find_broken(reply)) return broken;
    for (int round = 0; round < 2; ++round) {
      int left = 0;
      curl_multi_perform(multi_, &left);
      if (const auto done = take_done(reply)) return done;
      const int milliseconds = static_cast<int>(std::min(seconds, 3600.0) * 1000);
      if (round == 0) curl_multi_poll(multi_, nullptr, 0, milliseconds, nullptr);
    }
    return std::nullopt;
  }

  void cancel(std::uint64_t id) override {
    const auto at = running_.find(id);
    if (at == running_.end()) return;
    release(at->second);
    running_.erase(at);
  }

  void wake() override { curl_multi_wakeup(multi_); }

 private:
  struct Transfer {
    std::uint64_t id = 0;
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    std::string sent{}, body{};
    std::size_t most = 0;
    bool too_large = false, broken = false;
    char problem[CURL_ERROR_SIZE] = {};
  };

  static std::size_t take(char* data, std::size_t, std::size_t bytes, void* to) {
    Transfer& t = *static_cast<Transfer*>(to);
    t.too_large = t.body.size() + bytes > t.most;
    if (t.too_large) return 0;
    t.body.append(data, bytes);
    return bytes;
  }

  /// libcurl does not always say why it has no socket.
  static bool no_descriptor_is_left() {
    const int descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const bool none = descriptor < 0 && (errno == EMFILE || errno == ENFILE);
    if (descriptor >= 0) ::close(descriptor);
    return none;
  }

  /// Requests to this machine itself go to it, whatever proxy the environment names.
  static bool is_loopback(const std::string& url) {
    const std::string host = url.substr(url.find("://") + 3);
    return host.compare(0, 4, "127.") == 0 || host.compare(0, 9, "localhost") == 0 || host.compare(0, 5, "[::1]") == 0;
  }

  void set_options(Transfer& t, const std::string& url, const HttpRequest& request) {
    CURL* e = t.easy;
    t.headers = curl_slist_append(t.headers, "Content-Type: application/json");
    t.headers = curl_slist_append(t.headers, "Expect:");
    if (!key_.empty()) t.headers = curl_slist_append(t.headers, key_.c_str());
    curl_easy_setopt(e, CURLOPT_URL, (url + request.path).c_str());
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, t.headers);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);  // the key goes to nobody else
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(settings_.connect_seconds * 1000));
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t.problem);
    curl_easy_setopt(e, CURLOPT_PRIVATE, static_cast<void*>(&t));
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, &CurlTransport::take);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, static_cast<void*>(&t));
    if (is_loopback(url)) curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
    if (request.method != "POST") return;
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.sent.size()));
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, t.sent.data());
  }

  void release(Transfer& t) {
    if (t.easy != nullptr) {
      curl_multi_remove_handle(multi_, t.easy);
      curl_easy_cleanup(t.easy);
    }
    curl_slist_free_all(t.headers);
    t.easy = nullptr;
    t.headers = nullptr;
  }

  /// A transfer that could not be started.
  std::optional<std::uint64_t> find_broken(HttpReply& reply) {
    for (auto& [id, t] : running_) {
      if (t.easy != nullptr && !t.broken) continue;
      reply.failure = "libcurl has no memory for another request";
      const std::uint64_t number = id;
      cancel(number);
      return number;
    }
    return std::nullopt;
  }

  std::optional<std::uint64_t> take_done(HttpReply& reply) {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      void* of = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &of);
      Transfer& t = *static_cast<Transfer*>(of);
      fill(t, code, reply);
      const std::uint64_t id = t.id;
      cancel(id);
      return id;
    }
    return std::nullopt;
  }

  void fill(Transfer& t, CURLcode code, HttpReply& reply) const {
    reply.body = std::move(t.body);
    if (code == CURLE_OK) {
      long status = 0;
      curl_off_t after = 0;
      curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
      curl_easy_getinfo(t.easy, CURLINFO_RETRY_AFTER, &after);
      reply.status = static_cast<int>(status);
      reply.retry_after = static_cast<double>(after);
      if (status == 0) reply.failure = "the answer is no HTTP";
      return;
    }
    long system = 0;
    curl_easy_getinfo(t.easy, CURLINFO_OS_ERRNO, &system);
    reply.failure = t.problem[0] != '\0' ? t.problem : curl_easy_strerror(code);
    if (system == EMFILE || system == ENFILE || (code != CURLE_OPERATION_TIMEDOUT && no_descriptor_is_left()))
      reply.failure += "; no file descriptor is left: raise the limit (ulimit -n) or lower in_flight";
    else if (system != 0) reply.failure += concat(" (", ::strerror(static_cast<int>(system)), ")");
    if (t.too_large) {
      reply.failure = concat("the answer is larger than ", settings_.answer_bytes, " bytes (answer_bytes)");
      reply.final = true;
    }
    reply.final = reply.final || code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
                  code == CURLE_PEER_FAILED_VERIFICATION;
  }

  const RemoteTeacherSettings settings_;
  std::string key_;  // the header; it stands in no message
  CURLM* multi_ = nullptr;
  std::map<std::uint64_t, Transfer> running_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
