// SPDX-License-Identifier: Apache-2.0
// Bodies of report.hpp.
#ifndef KDLIB_TOOLS_REPORT_INL_HPP
#define KDLIB_TOOLS_REPORT_INL_HPP

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kdlib/io/utf8.hpp"
#include "kdlib/tools/report.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC int finish(int status) {
  const bool lost_before = std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) == 0 && !lost_before) return status;
  const int code = errno;
  std::fprintf(stderr, "error: standard output could not be written%s%s; the output is not complete\n",
               code != 0 ? ": " : "", code != 0 ? std::strerror(code) : "");
  return status == 0 ? 1 : status;
}

KDLIB_FUNC std::string terminal_text(std::string_view text) {
  std::string out;
  for (std::size_t end = 0; end != std::string_view::npos; text.remove_prefix(end + 1)) {
    end = text.find('\n');
    out += printable(text.substr(0, end), std::string_view::npos);
    if (end == std::string_view::npos) break;
    out += '\n';
  }
  return out;
}

KDLIB_FUNC void show_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) std::fprintf(stderr, "note: %s\n", terminal_text(note).c_str());
}

KDLIB_FUNC bool is_usage_error(const std::exception& error) {
  return dynamic_cast<const UsageError*>(&error) != nullptr || dynamic_cast<const SettingsError*>(&error) != nullptr;
}

KDLIB_FUNC int report(const std::exception& error) {
  if (dynamic_cast<const HelpRequested*>(&error) != nullptr) {
    std::fputs(error.what(), stdout);
    return finish();
  }
  constexpr std::size_t most = 8000;  // a template, say, may raise megabytes
  const std::string_view what = error.what();
  const std::string_view shown = whole_characters(what, most);
  const std::string left_out =
      shown.size() < what.size() ? concat(" ... (", what.size() - shown.size(), " bytes more)") : "";
  std::fprintf(stderr, "error: %s%s\n", terminal_text(shown).c_str(), left_out.c_str());
  return is_usage_error(error) ? 2 : 1;
}

KDLIB_NAMESPACE_END

#endif
