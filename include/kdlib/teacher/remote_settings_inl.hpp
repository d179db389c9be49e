// SPDX-License-Identifier: Apache-2.0
// Bodies of remote_settings.hpp.
#ifndef KDLIB_TEACHER_REMOTE_SETTINGS_INL_HPP
#define KDLIB_TEACHER_REMOTE_SETTINGS_INL_HPP

#include <algorithm>

#include "kdlib/teacher/remote_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What is wrong with the address of a server, or nullptr.
KDLIB_FUNC const char* url_problem(const std::string& url) {
  std::size_t begin = 0;
  if (url.compare(0, 7, "http://") == 0) begin = 7;
  else if (url.compare(0, 8, "https://") == 0) begin = 8;
  else return "it must start with http:// or https://";
  if (url.find_first_of("/?#", begin) != std::string::npos) return "it must end behind the port, without a path";
  if (url.find('@') != std::string::npos) return "a name and password do not belong there; name the key's variable";
  if (url.size() == begin || url[begin] == ':') return "it names no host";
  for (const char c : url)
    if (static_cast<unsigned char>(c) <= 32 || static_cast<unsigned char>(c) >= 127)
      return "it holds a blank or a "
             "character beyond ASCII";
  return nullptr;
}

}  // namespace detail

KDLIB_FUNC bool names_servers(std::string_view place) {
  return place.rfind("http://", 0) == 0 || place.rfind("https://", 0) == 0;
}

KDLIB_FUNC std::vector<std::string> split_urls(const std::string& text) {
  std::vector<std::string> urls;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    urls.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return urls;
}

KDLIB_FUNC void check_remote_settings(const RemoteTeacherSettings& s) {
  require<ConfigError>(!s.urls.empty(), "[RemoteTeacher] urls is empty; at least one server is needed");
  for (const std::string& url : s.urls) {
    const char* problem = detail::url_problem(url);
    require<ConfigError>(problem == nullptr, "[RemoteTeacher] '", url,
                         "' is no address of a server: ", problem == nullptr ? "" : problem);
  }
  require<ConfigError>(s.top_k > 0, "[RemoteTeacher] top_k is ", s.top_k, "; it must be above 0");
  require<ConfigError>(s.vocabulary >= 0, "[RemoteTeacher] vocabulary is ", s.vocabulary, "; it must be 0 or above");
  require<ConfigError>(s.in_flight > 0, "[RemoteTeacher] in_flight is ", s.in_flight, "; it must be above 0");
  require<ConfigError>(s.attempts > 0, "[RemoteTeacher] attempts is ", s.attempts, "; it must be above 0");
  require<ConfigError>(s.connect_seconds > 0 && s.read_seconds > 0, "[RemoteTeacher] connect_seconds is ",
                       s.connect_seconds, " and read_seconds ", s.read_seconds, "; both must be above 0");
  require<ConfigError>(s.answer_bytes > 0, "[RemoteTeacher] answer_bytes is ", s.answer_bytes, "; it must be above 0");
}

KDLIB_NAMESPACE_END

#endif
