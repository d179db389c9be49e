// SPDX-License-Identifier: Apache-2.0
// Body of http_server.hpp: Boost.Beast on one thread, with a few more for work that waits for children.
// Included by src/tools/service_http.cpp alone.
#ifndef KDLIB_TOOLS_SERVICE_HTTP_SERVER_INL_HPP
#define KDLIB_TOOLS_SERVICE_HTTP_SERVER_INL_HPP

#include "kdlib/core/fields.hpp"
#include "kdlib/core/settings_error.hpp"
#include "kdlib/tools/service/connection_inl.hpp"

#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/websocket/rfc6455.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <optional>

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline void copy_request(const SocketRequest& from, ServiceRequest& to) {
  to.method = std::string(from.method_string());
  to.body = from.body();
  for (const auto& field : from) {
    std::string name(field.name_string());
    for (char& c : name)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    to.headers.emplace_back(std::move(name), std::string(field.value()));
  }
}

/// Status line and headers of an answer, which may replace those that every answer has. `framing`: how long the body
/// is, as a header.
inline std::string answer_head(const ServiceAnswer& answer, const std::string& framing, bool alive) {
  static const std::pair<std::string, std::string> usual[] = {
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      {"X-Frame-Options", "SAMEORIGIN"},
      {"Cache-Control", "no-store"},
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
       "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
       "require-trusted-types-for 'script'; trusted-types 'none'"}};
  std::string out = concat("HTTP/1.1 ", answer.status, " ", status_title(answer.status), "\r\nServer: kdlib\r\n");
  const auto add = [&](const std::string& name, const std::string& value) {
    out += name + ": ";
    for (const char c : value) out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;  // a value is one line
    out += "\r\n";
  };
  add("Content-Type", answer.type);
  for (const auto& [name, value] : usual) {
    const bool own = std::any_of(answer.headers.begin(), answer.headers.end(),
                                 [&n = name](const auto& header) { return header.first == n; });
    if (!own) add(name, value);
  }
  for (const auto& [name, value] : answer.headers) add(name, value);
  add("Connection", alive ? "keep-alive" : "close");
  return out + framing + "\r\n\r\n";
}

/// One connection: requests one after the other, or an endless answer of events.
class HttpSession final : public Listener, public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(HttpServer& server, tcp::socket socket) : server_(server), socket_(std::move(socket)), timer_(server.io) {
    ++server_.connections;
  }
  ~HttpSession() override { --server_.connections; }

  void read() {
    parser_.emplace();
    parser_->header_limit(HttpServer::max_header);
    parser_->body_limit(HttpServer::max_body);
    // The whole request has this long. Then reading ends, and what came of it is answered.
    limit(server_.patience, [](HttpSession& s) { s.late_ = true, s.cancel(); });
    http::async_read(socket_, buffer_, *parser_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      self->unlimited();
      if (error) return self->refuse(error);
      self->answer_request();
    });
  }

  void pump() override {
    if (ready_) return look();
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
  using Step = void (*)(HttpSession&);

  /// Calls `late` after that time, unless unlimited() or another limit() comes before.
  void limit(std::chrono::milliseconds time, Step late) {
    const std::size_t turn = ++turn_;
    timer_.expires_after(time);
    timer_.async_wait([self = shared_from_this(), turn, late](beast::error_code error) {
      if (!error && turn == self->turn_) late(*self);
    });
  }
  void unlimited() {
    ++turn_;
    timer_.cancel();
  }
  void cancel() {
    beast::error_code ignored;
    socket_.cancel(ignored);
  }
  void close() {
    beast::error_code ignored;
    socket_.close(ignored);
  }

  void refuse(beast::error_code error) {
    const bool some = buffer_.size() > 0 || parser_->got_some();
    int status = 0;
    if (error == http::error::header_limit) status = 431;
    else if (error == http::error::body_limit) status = 413;
    else if (late_) status = some ? 408 : 0;
    else if (error == http::error::buffer_overflow) status = 431;
    else if (error.category() == make_error_code(http::error::bad_method).category() &&
             error != http::error::end_of_stream && error != http::error::partial_message)
      status = 400;
    if (status == 0) return close();
    const std::string why =
        status == 431   ? "the header is larger than 16 KiB"
        : status == 413 ? "the body is larger than 1 MiB"
        : status == 408 ? concat("the request took more than ",
                                 shortest_number_text(static_cast<double>(server_.patience.count()) / 1000), " seconds")
                        : "the request is no HTTP: " + error.message();
    send(problem_answer(ServiceProblem(status, why), ""), false, false);
  }

  void answer_request() {
    const SocketRequest& from = parser_->get();
    ServiceRequest request;
    copy_request(from, request);
    alive_ = from.keep_alive(), head_ = from.method() == http::verb::head;
    const auto target = from.target();
    if (!read_target({target.data(), target.size()}, request))
      return send(problem_answer(ServiceProblem(400, "the address is no path of valid UTF-8"), ""), alive_, head_);
    if (server_.api != nullptr && beast::websocket::is_upgrade(from)) return open_socket(std::move(request));
    ServiceAnswer answer = server_.handle(request);
    if (answer.later) return wait_for(std::move(answer));
    if (answer.ready) {
      ready_ = std::move(answer.ready);
      limit(std::chrono::seconds(60), [](HttpSession& s) { s.close(); });  // it holds the connection meanwhile
      server_.add(shared_from_this());
      return look();
    }
    send(std::move(answer), alive_, head_);
  }

  void open_socket(ServiceRequest request) {
    if (auto refused = server_.api->check_socket(request)) return send(std::move(*refused), false, false);
    if (server_.is_crowded()) return send(problem_answer(crowded(), request.path), false, false);
    const SocketRequest from = parser_->release();
    open_web_socket(server_, std::move(socket_), std::move(request), from);
  }

  static ServiceProblem crowded() { return {503, "256 listeners are here already; try again later"}; }

  /// An answer that is asked for until it is there.
  void look() {
    ServiceAnswer answer;
    if (!ready_(answer)) return;
    ready_ = nullptr;
    std::erase_if(server_.listeners, [this](const auto& l) { return l.lock().get() == this; });
    send(std::move(answer), alive_, head_);
  }

  void wait_for(ServiceAnswer answer) {
    net::post(server_.workers, [self = shared_from_this(), work = std::move(answer.later)]() mutable {
      auto out = std::make_shared<ServiceAnswer>();
      try {
        *out = work();
      } catch (const std::exception& error) {
        *out = problem_answer(ServiceProblem(500, error.what()), "");
      }
      work = nullptr;
      net::post(self->server_.io, [self, out] { self->send(std::move(*out), self->alive_, self->head_); });
    });
  }

  /// Writes `out_` within the server's patience, then goes on; a client that takes nothing is let go.
  void write(Step then) {
    limit(server_.patience, [](HttpSession& s) { s.close(); });
    net::async_write(socket_, net::buffer(out_),
                     [self = shared_from_this(), then](beast::error_code error, std::size_t) {
                       self->unlimited();
                       if (error) self->events_ = nullptr, self->close();
                       else then(*self);
                     });
  }

  void send(ServiceAnswer answer, bool alive, bool head) {
    if (answer.events && server_.is_crowded()) answer = problem_answer(crowded(), "");
    if (answer.producer || answer.events) return send_pieces(std::move(answer), head);
    out_ = answer_head(answer, concat("Content-Length: ", answer.body.size()), alive);
    if (!head) out_ += answer.body;
    write(alive ? Step([](HttpSession& s) { s.read(); }) : Step([](HttpSession& s) { s.shut(); }));
  }

  /// The header of a chunked answer; pieces follow.
  void send_pieces(ServiceAnswer answer, bool head) {
    out_ = answer_head(answer, "Transfer-Encoding: chunked", false);
    if (head) return write([](HttpSession& s) { s.shut(); });
    producer_ = std::move(answer.producer);
    events_ = std::move(answer.events);
    writing_ = true;
    write([](HttpSession& s) {
      s.writing_ = false;
      if (!s.events_) return s.next_piece();
      s.server_.add(s.shared_from_this());
      s.watch();
      s.pump();
    });
  }

  /// Takes what the other side sends until it goes. This holds the connection while there is nothing to write: the
  /// server's list of listeners does not.
  void watch() {
    watching_ = true;
    socket_.async_read_some(net::buffer(ignored_), [self = shared_from_this()](beast::error_code error, std::size_t) {
      if (!error) return self->watch();
      self->watching_ = false;
      self->events_ = nullptr;
      self->unlimited();
      self->close();
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
    out_.clear();
    if (!text.empty()) {
      char size[32];
      std::snprintf(size, sizeof size, "%zx\r\n", text.size());
      out_ = size + text + "\r\n";
    }
    if (last) out_ += "0\r\n\r\n";
    // A listener that takes nothing for this long is let go; it comes back with the last step that it has.
    write(last ? Step([](HttpSession& s) { s.shut(); }) : Step([](HttpSession& s) {
      s.writing_ = false;
      if (s.producer_) s.next_piece();
      else s.pump();
    }));
  }

  /// Ends this side and takes what the other one still sends, for a while: closed at once, the answer might not arrive.
  void shut() {
    events_ = nullptr;
    beast::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    limit(std::chrono::seconds(2), [](HttpSession& s) { s.close(); });
    if (!watching_) watch();
  }

  HttpServer& server_;
  tcp::socket socket_;
  net::steady_timer timer_;
  std::size_t turn_ = 0;
  beast::flat_buffer buffer_{HttpServer::max_header + HttpServer::max_body};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::function<bool(ServiceAnswer&)> ready_;
  std::function<bool(std::string&)> producer_;
  std::shared_ptr<RunEvents> events_;
  std::string out_;
  std::array<char, 4096> ignored_{};  // what comes behind the request that is answered last
  bool alive_ = false, head_ = false, late_ = false, writing_ = false, watching_ = false;
  std::size_t quiet_ = 0;
};

/// Takes connections while there are not too many.
inline void accept_next(HttpServer& server, tcp::acceptor& acceptor) {
  acceptor.async_accept([&](beast::error_code error, tcp::socket socket) {
    if (error == net::error::operation_aborted) return;
    if (!error && server.connections < HttpServer::max_connections)
      HttpServer::guarded([&] { std::make_shared<HttpSession>(server, std::move(socket))->read(); });
    accept_next(server, acceptor);
  });
}

/// Listens and answers until the process is to end.
inline int serve_until_signal(HttpServer& server, const ServiceSettings& settings,
                              const std::function<void(int port)>& ready) {
  beast::error_code error;
  const auto address = net::ip::make_address(settings.host, error);
  require<SettingsError>(!error, "[serve] --host ", settings.host, " is no address: ", error.message());
  tcp::acceptor acceptor(server.io);
  const tcp::endpoint place(address, static_cast<unsigned short>(settings.port));
  acceptor.open(place.protocol());
  acceptor.set_option(net::socket_base::reuse_address(true));
  acceptor.bind(place, error);
  require<IoError>(!error, "[serve] cannot listen on ", settings.host, ":", settings.port, ": ", error.message(),
                   "; use another --port");
  acceptor.listen(net::socket_base::max_listen_connections, error);
  require<IoError>(!error, "[serve] cannot listen: ", error.message());
  net::signal_set signals(server.io, SIGINT, SIGTERM);
  signals.async_wait([&](beast::error_code, int) { server.io.stop(); });
  accept_next(server, acceptor);
  server.patience = std::chrono::milliseconds(static_cast<std::int64_t>(settings.patience * 1000));
  server.tick();
  ready(acceptor.local_endpoint().port());
  while (!server.io.stopped()) HttpServer::guarded([&] { server.io.run(); });
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
