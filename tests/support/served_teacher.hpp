// SPDX-License-Identifier: Apache-2.0
// A toy model behind the server of `serve --teacher`, behind a socket of the test's.
#ifndef KDLIB_TESTS_SUPPORT_SERVED_TEACHER_HPP
#define KDLIB_TESTS_SUPPORT_SERVED_TEACHER_HPP

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/teacher/remote.hpp"
#include "kdlib/tools/service/teacher_engine.hpp"
#include "support/fake_teacher_server.hpp"
#include "support/shared.hpp"
#include "support/toy_model.hpp"

namespace kdlib_tests {

/// Answers as `serve --teacher` does, with a key in the environment.
class Served {
  using Toy = ToyModel<float>;
  const std::string token = std::string(40, 'k');

 public:
  explicit Served(Toy& model, std::string hash = "sha256:toy") {
    settings_.token = token;
    kdlib::ServedTeacher facts;
    facts.name = "toy";
    facts.model_hash = std::move(hash);
    facts.context_length = 64;
    facts.end_ids = {2};
    // A small workspace, so that rows of logits come in several chunks.
    server_ = std::make_unique<kdlib::TeacherServer>(
        settings_, std::make_unique<kdlib::ModelEngine<Toy>>(model, std::nullopt, facts, 2000), folder_.path(),
        [] { return 0.0; });
    socket_ = std::make_unique<FakeTeacherServer>([this](const FakeRequest& r) { return answer(r); });
    ::setenv("KDLIB_TEST_TOKEN", token.c_str(), 1);
  }
  kdlib::RemoteTeacherSettings settings(kdlib::Dialect dialect = kdlib::Dialect::kdlib) const {
    return {.urls = {socket_->url()},
            .dialect = dialect,
            .vocabulary = 17,
            .top_k = 5,
            .key_environment = "KDLIB_TEST_TOKEN"};
  }
  /// The server's answer to a request with these headers.
  kdlib::ServiceAnswer ask(const std::string& method, const std::string& path, const std::string& body = "",
                           std::vector<std::pair<std::string, std::string>> headers = {}) {
    headers.emplace_back("host", "127.0.0.1:1");
    headers.emplace_back("authorization", "Bearer " + token);
    headers.emplace_back("content-type", "application/json");
    kdlib::ServiceAnswer out = server_->handle({method, path, {}, headers, body});
    return out.later ? out.later() : std::move(out);
  }
  std::string replaced_hash;  // not empty: what rows say of their model

 private:
  FakeReply answer(const FakeRequest& r) {
    kdlib::ServiceRequest request{r.method, r.path, {}, {}, r.body};
    for (std::size_t at = r.head.find("\r\n") + 2; at < r.head.size();) {
      const std::size_t end = r.head.find("\r\n", at), colon = r.head.find(": ", at);
      std::string name = r.head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(::tolower(c));
      request.headers.emplace_back(name, r.head.substr(colon + 2, end - colon - 2));
      at = end + 2;
    }
    kdlib::ServiceAnswer out = server_->handle(request);
    if (out.later) out = out.later();
    std::string piece;
    while (out.producer) {
      const bool more = out.producer(piece);
      out.body += piece;
      if (!more) break;
    }
    if (const std::size_t at = out.body.find("sha256:toy"); at != std::string::npos && !replaced_hash.empty())
      out.body.replace(at, replaced_hash.size(), replaced_hash);
    return {out.status, out.body};
  }

  TemporaryDirectory folder_;
  kdlib::ServiceSettings settings_;
  std::unique_ptr<kdlib::TeacherServer> server_;
  std::unique_ptr<FakeTeacherServer> socket_;
};

}  // namespace kdlib_tests

#endif
