// SPDX-License-Identifier: Apache-2.0
// Bodies of message.hpp.
#ifndef KDLIB_TOOLS_SERVICE_MESSAGE_INL_HPP
#define KDLIB_TOOLS_SERVICE_MESSAGE_INL_HPP

#include <sys/random.h>
#include <time.h>

#include <cstdio>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/message.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Percent escapes decoded; false where one is broken.
KDLIB_TOOLS_FUNC bool decode_escapes(std::string_view text, bool plus_is_space, std::string& out) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] == '%') {
      if (i + 2 >= text.size()) return false;
      const int high = digit(text[i + 1]), low = digit(text[i + 2]);
      if (high < 0 || low < 0) return false;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out.find('\0') == std::string::npos && find_invalid_utf8(out) == std::string_view::npos;
}
}  // namespace detail

KDLIB_TOOLS_FUNC std::string_view ServiceRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

KDLIB_TOOLS_FUNC const char* status_title(int status) {
  static constexpr std::pair<int, const char*> titles[] = {{200, "OK"},
                                                           {202, "Accepted"},
                                                           {204, "No Content"},
                                                           {304, "Not Modified"},
                                                           {400, "Bad Request"},
                                                           {401, "Unauthorized"},
                                                           {403, "Forbidden"},
                                                           {404, "Not Found"},
                                                           {405, "Method Not Allowed"},
                                                           {406, "Not Acceptable"},
                                                           {408, "Request Timeout"},
                                                           {409, "Conflict"},
                                                           {413, "Content Too Large"},
                                                           {415, "Unsupported Media Type"},
                                                           {422, "Unprocessable Content"},
                                                           {426, "Upgrade Required"},
                                                           {429, "Too Many Requests"},
                                                           {431, "Request Header Fields Too Large"},
                                                           {500, "Internal Server Error"},
                                                           {503, "Service Unavailable"},
                                                           {504, "Gateway Timeout"},
                                                           {507, "Insufficient Storage"}};
  for (const auto& [number, title] : titles)
    if (number == status) return title;
  return "Error";
}

KDLIB_TOOLS_FUNC ServiceAnswer problem_answer(const ServiceProblem& problem, std::string_view instance) {
  JsonWriter json;
  json.begin_object().member("type", "about:blank").member("title", status_title(problem.status()));
  json.member("status", problem.status()).member("detail", replace_invalid_utf8(problem.what()));
  json.member("instance", replace_invalid_utf8(instance)).key("errors").begin_array();
  for (const FieldProblem& f : problem.fields())
    json.begin_object()
        .member("field", replace_invalid_utf8(f.field))
        .member("message", replace_invalid_utf8(f.message))
        .end_object();
  ServiceAnswer answer;
  answer.status = problem.status();
  answer.type = "application/problem+json";
  answer.body = json.end_array().end_object().text();
  return answer;
}

KDLIB_TOOLS_FUNC bool read_target(std::string_view target, ServiceRequest& request) {
  if (target.empty() || target[0] != '/') return false;
  const std::size_t mark = target.find('?');
  if (!detail::decode_escapes(target.substr(0, mark), false, request.path)) return false;
  if (mark == std::string_view::npos) return true;
  std::string_view query = target.substr(mark + 1);
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    const std::size_t equals = pair.find('=');
    std::string name, value;
    if (!detail::decode_escapes(pair.substr(0, equals), true, name)) return false;
    if (equals != std::string_view::npos && !detail::decode_escapes(pair.substr(equals + 1), true, value)) return false;
    if (!pair.empty()) request.query.emplace_back(std::move(name), std::move(value));
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
  }
  return true;
}

KDLIB_TOOLS_FUNC std::string time_text(double seconds) {
  const time_t whole = static_cast<time_t>(seconds);
  struct tm parts {};
  ::gmtime_r(&whole, &parts);
  char text[32];
  const std::size_t size = ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return std::string(text, size);
}

KDLIB_TOOLS_FUNC std::string random_hex(int bytes) {
  std::string raw(static_cast<std::size_t>(bytes), '\0'), out;
  require<Error>(::getrandom(raw.data(), raw.size(), 0) == static_cast<ssize_t>(raw.size()),
                 "[serve] the system gave no random bytes");
  for (const char c : raw) {
    out += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    out += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

KDLIB_TOOLS_FUNC bool same_secret(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference =
        static_cast<unsigned char>(difference | (static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i])));
  return difference == 0;
}

KDLIB_NAMESPACE_END

#endif
