// SPDX-License-Identifier: Apache-2.0
// Body of http_server.hpp: Boost.Beast on one thread, with a few more for work that waits for children.
// Included by src/tools/service_http.cpp alone.
#ifndef KDLIB_TOOLS_SERVICE_HTTP_SERVER_INL_HPP
#define KDLIB_TOOLS_SERVICE_HTTP_SERVER_INL_HPP

#include <cstdio>
#include <optional>

#include "kdlib/tools/service/socket_session_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One connection: requests one after the other, or an endless answer of events.
class HttpSession final : public Listener, public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(HttpServer& server, tcp::socket socket) : server_(server), stream_(std::move(socket)) {
    ++server_.connections;
  }
  ~HttpSession() override { --server_.connections; }

  void read() {
    parser_.emplace();
    parser_->header_limit(HttpServer::max_header);
    parser_->body_limit(HttpServer::max_body);
    stream_.expires_after(HttpServer::patience);
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      if (error) return self->refuse(error);
      self->answer_request();
    });
  }

  void pump() override {
    if (!events_ || writing_) return;
    std::string text;
    RunEvent event;
    bool ended = false;
    while (text.size() < (64u << 10)) {
      const RunEvents::Next next = events_->next(event);
      ended = next == RunEvents::Next::end;
      if (next != RunEvents::Next::message) break;
      if (event.step >= 0) text += concat("id: ", event.step, "\n");
      text += concat("event: ", event.type, "\ndata: ", event.json, "\n\n");
    }
    if (text.empty() && !ended && ++quiet_ % 150 == 0) text = ": still here\n\n";
    if (text.empty() && !ended) return;
    if (ended) events_ = nullptr;
    write_piece(std::move(text), ended);
  }

 private:
  void refuse(beast::error_code error) {
    int status = 0;
    if (error == http::error::header_limit) status = 431;
    else if (error == http::error::body_limit) status = 413;
    else if (error == beast::error::timeout) status = buffer_.size() > 0 ? 408 : 0;
    else if (error.category() == make_error_code(http::error::bad_method).category() &&
             error != http::error::end_of_stream && error != http::error::partial_message)
      status = 400;
    if (status == 0) return shut();
    stream_.expires_after(std::chrono::seconds(5));
    const std::string why = status == 431   ? "the header is larger than 16 KiB"
                            : status == 413 ? "the body is larger than 1 MiB"
                            : status == 408 ? "the request took more than 30 seconds"
                                            : "the request is no HTTP: " + error.message();
    send(problem_answer(ServiceProblem(status, why), ""), false, false);
  }

  void answer_request() {
    const http::request<http::string_body>& from = parser_->get();
    ServiceRequest request;
    copy_request(from, request);
    const bool alive = from.keep_alive(), head = from.method() == http::verb::head;
    const auto target = from.target();
    if (!read_target({target.data(), target.size()}, request))
      return send(problem_answer(ServiceProblem(400, "the address is no path of valid UTF-8"), ""), alive, head);
    if (server_.api != nullptr && websocket::is_upgrade(from)) return open_socket(std::move(request));
    ServiceAnswer answer = server_.handle(request);
    if (answer.later) return wait_for(std::move(answer), alive, head);
    send(std::move(answer), alive, head);
  }

  void open_socket(ServiceRequest request) {
    if (auto refused = server_.api->check_socket(request)) return send(std::move(*refused), false, false);
    if (server_.is_crowded()) return send(problem_answer(crowded(), request.path), false, false);
    const http::request<http::string_body> from = parser_->release();
    std::make_shared<SocketSession>(server_, std::move(stream_), std::move(request))->start(from);
  }

  static ServiceProblem crowded() { return {503, "256 listeners are here already; try again later"}; }

  void wait_for(ServiceAnswer answer, bool alive, bool head) {
    stream_.expires_never();
    net::post(server_.workers, [self = shared_from_this(), work = std::move(answer.later), alive, head]() mutable {
      auto out = std::make_shared<ServiceAnswer>();
      try {
        *out = work();
      } catch (const std::exception& error) {
        *out = problem_answer(ServiceProblem(500, error.what()), "");
      }
      work = nullptr;
      net::post(self->server_.io, [self, out, alive, head] { self->send(std::move(*out), alive, head); });
    });
  }

  void send(ServiceAnswer answer, bool alive, bool head) {
    if (answer.events && server_.is_crowded()) answer = problem_answer(crowded(), "");
    if (answer.producer || answer.events) return send_pieces(std::move(answer), head);
    auto out = std::make_shared<HttpAnswer>(static_cast<http::status>(answer.status), 11);
    set_headers(*out, answer);
    out->keep_alive(alive);
    const std::size_t size = answer.body.size();
    if (!head) out->body() = std::move(answer.body);
    out->content_length(size);
    stream_.expires_after(HttpServer::patience);
    auto writer = std::make_shared<http::response_serializer<http::string_body>>(*out);
    if (head) writer->split(true);
    const auto done = [self = shared_from_this(), out, writer, alive](beast::error_code error, std::size_t) {
      if (error || !alive) return self->shut();
      self->read();
    };
    if (head) http::async_write_header(stream_, *writer, done);
    else http::async_write(stream_, *writer, done);
  }

  /// The header of a chunked answer; pieces follow.
  void send_pieces(ServiceAnswer answer, bool head) {
    auto out = std::make_shared<http::response<http::empty_body>>(static_cast<http::status>(answer.status), 11);
    set_headers(*out, answer);
    out->chunked(true);
    out->keep_alive(false);
    auto writer = std::make_shared<http::response_serializer<http::empty_body>>(*out);
    stream_.expires_after(HttpServer::patience);
    auto kept = std::make_shared<ServiceAnswer>(std::move(answer));
    http::async_write_header(
        stream_, *writer, [self = shared_from_this(), out, writer, kept, head](beast::error_code error, std::size_t) {
          if (error || head) return self->shut();
          self->producer_ = std::move(kept->producer);
          self->events_ = std::move(kept->events);
          if (!self->events_) return self->next_piece();
          self->stream_.expires_never();
          self->server_.add(self);
          self->pump();
        });
  }

  void next_piece() {
    std::string piece;
    bool more = false;
    try {
      more = producer_(piece);
    } catch (const std::exception&) {
      return shut();  // the other side sees that the last chunk is missing
    }
    write_piece(std::move(piece), !more);
  }

  void write_piece(std::string text, bool last) {
    writing_ = true;
    piece_.clear();
    if (!text.empty()) {
      char size[32];
      std::snprintf(size, sizeof size, "%zx\r\n", text.size());
      piece_ = size + text + "\r\n";
    }
    if (last) piece_ += "0\r\n\r\n";
    // A listener that takes nothing for this long is let go; it comes back with the last step that it has.
    stream_.expires_after(HttpServer::patience);
    net::async_write(stream_, net::buffer(piece_),
                     [self = shared_from_this(), last](beast::error_code error, std::size_t) {
                       self->writing_ = false;
                       if (error || last) return self->shut();
                       self->stream_.expires_never();
                       if (self->producer_) self->next_piece();
                       else self->pump();
                     });
  }

  void shut() {
    events_ = nullptr;
    beast::error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

  HttpServer& server_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{HttpServer::max_header + HttpServer::max_body};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::function<bool(std::string&)> producer_;
  std::shared_ptr<RunEvents> events_;
  std::string piece_;
  bool writing_ = false;
  std::size_t quiet_ = 0;
};

/// Takes connections while there are not too many.
inline void accept_next(HttpServer& server, tcp::acceptor& acceptor) {
  acceptor.async_accept([&](beast::error_code error, tcp::socket socket) {
    if (error == net::error::operation_aborted) return;
    if (!error && server.connections < HttpServer::max_connections)
      std::make_shared<HttpSession>(server, std::move(socket))->read();
    accept_next(server, acceptor);
  });
}

/// Listens and answers until the process is to end.
inline int serve_until_signal(HttpServer& server, const ServiceSettings& settings,
                              const std::function<void(int port)>& ready) {
  beast::error_code error;
  const auto address = boost::asio::ip::make_address(settings.host, error);
  require<IoError>(!error, "[serve] --host ", settings.host, " is no address: ", error.message());
  tcp::acceptor acceptor(server.io);
  const tcp::endpoint place(address, static_cast<unsigned short>(settings.port));
  acceptor.open(place.protocol());
  acceptor.set_option(boost::asio::socket_base::reuse_address(true));
  acceptor.bind(place, error);
  require<IoError>(!error, "[serve] cannot listen on ", settings.host, ":", settings.port, ": ", error.message(),
                   "; use another --port");
  acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
  require<IoError>(!error, "[serve] cannot listen: ", error.message());
  boost::asio::signal_set signals(server.io, SIGINT, SIGTERM);
  signals.async_wait([&](beast::error_code, int) { server.io.stop(); });
  accept_next(server, acceptor);
  server.tick();
  ready(acceptor.local_endpoint().port());
  server.io.run();
  server.workers.join();
  server.comparer.join();
  return 0;
}

}  // namespace detail

int run_http_server(const ServiceSettings& settings, std::vector<PageFile> page,
                    const std::function<void(int port)>& ready) {
  detail::HttpServer server;
  ServiceApi api(
      settings, std::move(page),
      [&server](std::function<void()> work) { boost::asio::post(server.comparer, std::move(work)); },
      detail::steady_seconds);
  server.api = &api;
  server.handle = [&api](const ServiceRequest& request) { return api.handle(request); };
  return detail::serve_until_signal(server, settings, ready);
}

int run_http_server(const ServiceSettings& settings, std::function<ServiceAnswer(const ServiceRequest&)> handle,
                    const std::function<void(int port)>& ready) {
  detail::HttpServer server;
  server.handle = std::move(handle);
  return detail::serve_until_signal(server, settings, ready);
}

KDLIB_NAMESPACE_END

#endif
