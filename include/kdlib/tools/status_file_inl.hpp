// SPDX-License-Identifier: Apache-2.0
// Bodies of status_file.hpp.
#ifndef KDLIB_TOOLS_STATUS_FILE_INL_HPP
#define KDLIB_TOOLS_STATUS_FILE_INL_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kdlib/core/clock.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/system_inl.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/report.hpp"
#include "kdlib/tools/status_file.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The errno whose text an error's message ends with or holds; 0: none of those that a user can do something about.
KDLIB_TOOLS_FUNC int errno_in(std::string_view message) {
  for (const int number : {ENOSPC, EDQUOT, EROFS, EACCES, EIO, ENOMEM, EFBIG})
    if (message.find(std::strerror(number)) != std::string_view::npos) return number;
  return 0;
}

KDLIB_TOOLS_FUNC const char* error_kind(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "bad_alloc";
  if (dynamic_cast<const IoError*>(&error) != nullptr) return "IoError";
  if (dynamic_cast<const FormatError*>(&error) != nullptr) return "FormatError";
  if (dynamic_cast<const InputError*>(&error) != nullptr) return "InputError";
  if (is_usage_error(error)) return "UsageError";
  if (dynamic_cast<const ConfigError*>(&error) != nullptr) return "ConfigError";
  return "Error";
}
}  // namespace detail

KDLIB_TOOLS_FUNC StatusFile::StatusFile(const std::string& path)
    : file_(detail::open_descriptor(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW)) {
  if (!file_) detail::fail_io("write", path, errno);
}

KDLIB_TOOLS_FUNC void StatusFile::on_writing(const WritingReport& r) {
  if (r.finished >= r.sequences) return say(phase_.c_str(), 0, 0);
  const double now = steady_seconds();
  if (now - said_ < 1) return;
  said_ = now;
  const std::string phase = phase_;  // what it goes back to
  say("writing", r.finished, r.sequences);
  phase_ = phase;
}

KDLIB_TOOLS_FUNC void StatusFile::say(const char* phase, std::int64_t done, std::int64_t total) {
  JsonWriter json;
  json.begin_object().member("phase", phase).member("done", done).member("total", total).end_object();
  phase_ = phase;
  write_line(json.text(), false);
}

KDLIB_TOOLS_FUNC void StatusFile::ended(int status) {
  JsonWriter json;
  write_line(json.begin_object().member("phase", "ended").member("status", status).end_object().text(), true);
}

KDLIB_TOOLS_FUNC void StatusFile::failed(const std::exception& error) {
  const std::string message = error.what();
  JsonWriter json;
  json.begin_object().member("phase", "ended").member("status", is_usage_error(error) ? 2 : 1);
  json.member("error", detail::error_kind(error)).member("errno", detail::errno_in(message));
  json.member("message", replace_invalid_utf8(whole_characters(message, 2000))).end_object();
  write_line(json.text(), true);
}

KDLIB_TOOLS_FUNC void StatusFile::write_line(std::string text, bool last) {
  text += '\n';
  const std::int64_t bytes = static_cast<std::int64_t>(text.size());
  if (size_ + bytes > (1 << 20)) size_ = ::ftruncate(file_.get(), 0) == 0 ? 0 : size_;
  if (::pwrite(file_.get(), text.data(), text.size(), size_) == bytes) {
    size_ += bytes;
  } else if (last && ::pwrite(file_.get(), text.data(), text.size(), 0) == bytes) {
    // A full disk takes bytes in the place of old ones.
    static_cast<void>(!::ftruncate(file_.get(), bytes));
  } else {
    static_cast<void>(!::ftruncate(file_.get(), size_));  // no half lines
  }
}

KDLIB_NAMESPACE_END

#endif
