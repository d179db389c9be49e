// SPDX-License-Identifier: Apache-2.0
// A server of a project of its own, with the sockets of kdlib::serve: it is asked once and ends.
#include <kdlib/tools/service/http_server.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

namespace kd = kdlib;

namespace {

/// The answer to a request for /sum, as it comes from the socket.
std::string ask(int port) {
  const int s = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  std::string got;
  if (::connect(s, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
    const std::string request =
        "GET /sum HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port) + "\r\nConnection: close\r\n\r\n";
    char part[4096];
    if (::send(s, request.data(), request.size(), 0) > 0)
      for (ssize_t n; (n = ::recv(s, part, sizeof part, 0)) > 0;) got.append(part, static_cast<std::size_t>(n));
  }
  ::close(s);
  return got;
}

}  // namespace

int main() {
  kd::ServiceSettings settings;
  settings.port = 0;
  std::string got;
  std::thread client;
  const auto answer = [](const kd::ServiceRequest& request) {
    kd::ServiceAnswer out;
    out.body = "{\"path\": \"" + request.path + "\", \"sum\": " + std::to_string(2 + 3) + "}";
    return out;
  };
  const int status = kd::run_http_server(settings, answer, [&](int port) {
    client = std::thread([&got, port] {
      got = ask(port);
      ::kill(::getpid(), SIGTERM);
    });
  });
  client.join();
  const bool right =
      got.rfind("HTTP/1.1 200", 0) == 0 && got.find("{\"path\": \"/sum\", \"sum\": 5}") != std::string::npos;
  std::printf("the service answers %s\n", right ? "what its function says" : got.c_str());
  return right ? status : 1;
}
