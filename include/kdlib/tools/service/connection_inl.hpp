// SPDX-License-Identifier: Apache-2.0
// What the connections of the service share. Part of http_server_inl.hpp and socket_session_inl.hpp.
#ifndef KDLIB_TOOLS_SERVICE_CONNECTION_INL_HPP
#define KDLIB_TOOLS_SERVICE_CONNECTION_INL_HPP

#include <utility>  // before Boost 1.74, which uses std::exchange without it

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include <chrono>
#include <cstdio>
#include <exception>

#include "kdlib/tools/service/http_server.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace net = boost::asio;
using tcp = boost::asio::ip::tcp;
using SocketRequest = http::request<http::string_body>;

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

  net::io_context io{1};
  net::thread_pool workers{2}, comparer{1};
  std::chrono::milliseconds patience{30000};  // for a whole request to come, and for an answer to be taken
  ServiceApi* api = nullptr;                  // nullptr: `handle` alone answers
  std::function<ServiceAnswer(const ServiceRequest&)> handle{};
  std::vector<std::weak_ptr<Listener>> listeners;
  std::size_t connections = 0, ticks = 0;
  net::steady_timer timer{io};

  void add(const std::shared_ptr<Listener>& listener) { listeners.push_back(listener); }
  bool is_crowded() {
    std::erase_if(listeners, [](const auto& l) { return l.expired(); });  // who went since the clock's last turn
    return listeners.size() >= max_listeners;
  }

  /// Looks after runs four times a second and after listeners ten times. What fails is told and tried again.
  void tick() {
    timer.expires_after(std::chrono::milliseconds(100));
    timer.async_wait([this](boost::system::error_code error) {
      if (error) return;
      tick();
      if (ticks++ % 3 == 0 && api != nullptr) guarded([this] { api->tick(); });
      std::erase_if(listeners, [](const auto& l) { return l.expired(); });
      const std::vector<std::weak_ptr<Listener>> all = listeners;
      for (const auto& weak : all)
        if (const auto listener = weak.lock()) guarded([&] { listener->pump(); });
    });
  }

  /// The service outlives what goes wrong in one piece of work: a full disk, no memory for one answer.
  template <class Work>
  static void guarded(Work&& work) {
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "[serve] %s\n", error.what());
    }
  }
};

/// Takes a connection over for events by WebSocket; `from` asked for it. Its body is in src/tools/service_socket.cpp.
void open_web_socket(HttpServer& server, tcp::socket socket, ServiceRequest request, const SocketRequest& from);

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
