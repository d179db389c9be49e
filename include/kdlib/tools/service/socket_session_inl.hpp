// SPDX-License-Identifier: Apache-2.0
// What connections of the service share, and events over a WebSocket. Part of http_server_inl.hpp.
#ifndef KDLIB_TOOLS_SERVICE_SOCKET_SESSION_INL_HPP
#define KDLIB_TOOLS_SERVICE_SOCKET_SESSION_INL_HPP

#include <utility>  // before Boost 1.74, which uses std::exchange without it

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>

#include <algorithm>
#include <chrono>

#include "kdlib/tools/service/http_server.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace websocket = boost::beast::websocket;
namespace net = boost::asio;
using tcp = boost::asio::ip::tcp;

/// A listener of events that is looked after by the server's clock.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual void pump() = 0;
};

/// What connections share.
struct HttpServer {
  static constexpr std::size_t max_connections = 512, max_listeners = 256;
  static constexpr std::size_t max_header = 16 << 10, max_body = 1 << 20;
  static constexpr auto patience = std::chrono::seconds(30);

  net::io_context io{1};
  net::thread_pool workers{2}, comparer{1};
  ServiceApi* api = nullptr;  // nullptr: `handle` alone answers
  std::function<ServiceAnswer(const ServiceRequest&)> handle{};
  std::vector<std::weak_ptr<Listener>> listeners;
  std::size_t connections = 0, ticks = 0;
  net::steady_timer timer{io};

  void add(const std::shared_ptr<Listener>& listener) { listeners.push_back(listener); }
  bool is_crowded() const { return listeners.size() >= max_listeners; }

  /// Looks after runs four times a second and after listeners ten times.
  void tick() {
    timer.expires_after(std::chrono::milliseconds(100));
    timer.async_wait([this](beast::error_code error) {
      if (error) return;
      if (ticks++ % 3 == 0 && api != nullptr) api->tick();
      std::erase_if(listeners, [](const auto& l) { return l.expired(); });
      const std::vector<std::weak_ptr<Listener>> all = listeners;
      for (const auto& weak : all)
        if (const auto listener = weak.lock()) listener->pump();
      tick();
    });
  }
};

using HttpAnswer = http::response<http::string_body>;

/// The headers that every answer has.
template <class Body>
void set_headers(http::response<Body>& out, const ServiceAnswer& answer) {
  out.set(http::field::server, "kdlib");
  out.set(http::field::content_type, answer.type);
  out.set("X-Content-Type-Options", "nosniff");
  out.set("Referrer-Policy", "no-referrer");
  out.set("Cross-Origin-Opener-Policy", "same-origin");
  out.set("Cross-Origin-Resource-Policy", "same-origin");
  out.set("X-Frame-Options", "SAMEORIGIN");
  out.set(http::field::cache_control, "no-store");
  out.set("Content-Security-Policy",
          "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
          "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
          "require-trusted-types-for 'script'; trusted-types 'none'");
  for (const auto& [name, value] : answer.headers) out.set(name, value);
}

inline void copy_request(const http::request<http::string_body>& from, ServiceRequest& to) {
  to.method = std::string(from.method_string());
  to.body = from.body();
  for (const auto& field : from) {
    std::string name(field.name_string());
    for (char& c : name)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    to.headers.emplace_back(std::move(name), std::string(field.value()));
  }
}

/// Events over a WebSocket: the first message proves who asks.
class SocketSession final : public Listener, public std::enable_shared_from_this<SocketSession> {
 public:
  SocketSession(HttpServer& server, beast::tcp_stream stream, ServiceRequest request)
      : server_(server), socket_(std::move(stream)), request_(std::move(request)), timer_(server.io) {
    ++server_.connections;
  }
  ~SocketSession() override { --server_.connections; }

  void start(const http::request<http::string_body>& request) {
    beast::get_lowest_layer(socket_).expires_never();
    websocket::stream_base::timeout times{std::chrono::seconds(10), std::chrono::seconds(60), true};
    socket_.set_option(times);
    socket_.read_message_max(64 << 10);
    socket_.set_option(websocket::stream_base::decorator([](websocket::response_type& r) {
      r.set(http::field::sec_websocket_protocol, "kdlib.v1");
      r.set(http::field::server, "kdlib");
    }));
    socket_.async_accept(request, [self = shared_from_this()](beast::error_code error) {
      if (!error) self->read_first();
    });
  }

  void pump() override {
    if (!events_ || writing_ || closing_) return;
    RunEvent event;
    const RunEvents::Next next = events_->next(event);
    if (next == RunEvents::Next::nothing) return;
    if (next == RunEvents::Next::end) return close(websocket::close_code::normal, "the run has ended");
    message_ = std::move(event.json);
    writing_ = true;
    socket_.text(true);
    socket_.async_write(net::buffer(message_), [self = shared_from_this()](beast::error_code error, std::size_t) {
      self->writing_ = false;
      if (!error) self->pump();
    });
  }

 private:
  void read_first() {
    timer_.expires_after(std::chrono::seconds(5));
    timer_.async_wait([self = shared_from_this()](beast::error_code error) {
      if (!error && !self->events_) self->close(websocket::close_code(4401), "no token within 5 seconds");
    });
    socket_.async_read(buffer_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      if (error) return;
      self->timer_.cancel();
      const std::string first = beast::buffers_to_string(self->buffer_.data());
      self->buffer_.consume(self->buffer_.size());
      try {
        self->events_ = self->server_.api->open_socket(self->request_, first);
      } catch (const std::exception&) {
        self->events_ = nullptr;
      }
      if (!self->events_)
        return self->close(websocket::close_code(4401), "the token is wrong, or the run is not there");
      self->server_.add(self);
      self->read_more();
      self->pump();
    });
  }

  /// Notices the end of the other side; what it says is not looked at.
  void read_more() {
    socket_.async_read(buffer_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      self->buffer_.consume(self->buffer_.size());
      if (error) self->closing_ = true;
      else self->read_more();
    });
  }

  void close(websocket::close_code code, const char* reason) {
    if (closing_) return;
    closing_ = true;
    socket_.async_close(websocket::close_reason(code, reason), [self = shared_from_this()](beast::error_code) {});
  }

  HttpServer& server_;
  websocket::stream<beast::tcp_stream> socket_;
  ServiceRequest request_;
  net::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::shared_ptr<RunEvents> events_;
  std::string message_;
  bool writing_ = false, closing_ = false;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
