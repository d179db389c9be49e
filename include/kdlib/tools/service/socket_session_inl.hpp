// SPDX-License-Identifier: Apache-2.0
// Events over a WebSocket. Only src/tools/service_socket.cpp includes it: the unit that reads Beast's WebSockets.
#ifndef KDLIB_TOOLS_SERVICE_SOCKET_SESSION_INL_HPP
#define KDLIB_TOOLS_SERVICE_SOCKET_SESSION_INL_HPP

#include "kdlib/tools/service/connection_inl.hpp"

#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket.hpp>

#include <chrono>

KDLIB_NAMESPACE_BEGIN
namespace detail {

namespace websocket = boost::beast::websocket;

/// Events over a WebSocket: the first message proves who asks.
class SocketSession final : public Listener, public std::enable_shared_from_this<SocketSession> {
 public:
  SocketSession(HttpServer& server, tcp::socket socket, ServiceRequest request)
      : server_(server), socket_(std::move(socket)), request_(std::move(request)), timer_(server.io) {
    ++server_.connections;
  }
  ~SocketSession() override { --server_.connections; }

  void start(const SocketRequest& request) {
    websocket::stream_base::timeout times{std::chrono::seconds(10), std::chrono::seconds(60), true};
    socket_.set_option(times);
    socket_.read_message_max(64 << 10);
    socket_.set_option(websocket::stream_base::decorator([](websocket::response_type& r) {
      r.set(http::field::sec_websocket_protocol, "kdlib.v1");
      r.set(http::field::server, "kdlib");
    }));
    socket_.async_accept(request, Done{shared_from_this(), [](SocketSession& s, bool failed) {
                                         if (!failed) s.read_first();
                                       }});
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
    socket_.async_write(net::buffer(message_), Done{shared_from_this(), [](SocketSession& s, bool failed) {
                                                      s.writing_ = false;
                                                      if (!failed) s.pump();
                                                    }});
  }

 private:
  /// What follows an operation: of one type, so that Beast's operations are made once.
  struct Done {
    std::shared_ptr<SocketSession> self;
    void (*then)(SocketSession&, bool failed);
    void operator()(beast::error_code error, std::size_t = 0) const { then(*self, error.failed()); }
  };

  void read_first() {
    timer_.expires_after(std::chrono::seconds(5));
    timer_.async_wait([self = shared_from_this()](beast::error_code error) {
      if (!error && !self->events_) self->close(websocket::close_code(4401), "no token within 5 seconds");
    });
    read([](SocketSession& s, bool failed) {
      if (!failed) s.open();
    });
  }

  void open() {
    timer_.cancel();
    const std::string first = beast::buffers_to_string(buffer_.data());
    buffer_.consume(buffer_.size());
    HttpServer::guarded([&] { events_ = server_.api->open_socket(request_, first); });
    if (!events_) return close(websocket::close_code(4401), "the token is wrong, or the run is not there");
    server_.add(shared_from_this());
    read_more();
    pump();
  }

  void read(void (*then)(SocketSession&, bool failed)) { socket_.async_read(buffer_, Done{shared_from_this(), then}); }

  /// Notices the end of the other side; what it says is not looked at.
  void read_more() {
    read([](SocketSession& s, bool failed) {
      s.buffer_.consume(s.buffer_.size());
      if (failed) s.closing_ = true;
      else s.read_more();
    });
  }

  void close(websocket::close_code code, const char* reason) {
    if (closing_) return;
    closing_ = true;
    socket_.async_close(websocket::close_reason(code, reason), Done{shared_from_this(), [](SocketSession&, bool) {}});
  }

  HttpServer& server_;
  websocket::stream<tcp::socket, false> socket_;  // no permessage-deflate, and no zlib
  ServiceRequest request_;
  net::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::shared_ptr<RunEvents> events_;
  std::string message_;
  bool writing_ = false, closing_ = false;
};

void open_web_socket(HttpServer& server, tcp::socket socket, ServiceRequest request, const SocketRequest& from) {
  std::make_shared<SocketSession>(server, std::move(socket), std::move(request))->start(from);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
