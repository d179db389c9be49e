// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/run_folder.hpp.
#ifndef KDLIB_RECIPE_RUN_FOLDER_INL_HPP
#define KDLIB_RECIPE_RUN_FOLDER_INL_HPP

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/run_folder.hpp"
#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A double-quoted YAML scalar.
KDLIB_FUNC std::string yaml_quoted(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (u < 0x20 || u == 0x7F) ((out += "\\u00") += hex[u >> 4]) += hex[u & 15u];
    else out += c;
  }
  return out + "\"";
}

/// Reads the right side of one line of config.yaml: a plain or quoted scalar, or a list of them, and a comment.
class YamlValueReader {
 public:
  YamlValueReader(std::string_view text, std::string place) : text_(text), place_(std::move(place)) {}

  void read(DescribedSetting& setting) {
    blanks();
    if (peek() == '[') {
      setting.form = DescribedSetting::Form::list;
      ++at_;
      for (blanks(); peek() != ']'; blanks()) {
        setting.values.push_back(scalar(",]"));
        blanks();
        if (peek() == ',') ++at_;
        else require<FormatError>(peek() == ']', place_, ": the list is not closed");
      }
      ++at_;
    } else {
      setting.form = peek() == '"' ? DescribedSetting::Form::text : DescribedSetting::Form::plain;
      setting.values.push_back(scalar(""));
    }
    blanks();
    require<FormatError>(at_ == text_.size() || peek() == '#', place_, ": something stands behind the value");
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void blanks() {
    while (peek() == ' ') ++at_;
  }
  std::string scalar(std::string_view ends) {
    std::string out;
    if (peek() != '"') {
      while (at_ < text_.size() && ends.find(peek()) == std::string_view::npos &&
             !(peek() == ' ' && text_.substr(at_).find_first_not_of(' ') == text_.substr(at_).find('#')))
        out += text_[at_++];
      while (!out.empty() && out.back() == ' ') out.pop_back();
      return out;
    }
    for (++at_; peek() != '"'; ++at_) {
      require<FormatError>(at_ < text_.size(), place_, ": the quotes are not closed");
      if (peek() == '\\') escaped(out);
      else out += peek();
    }
    ++at_;
    return out;
  }
  /// n, t, four hexadecimal digits behind u, or the character itself.
  void escaped(std::string& out) {
    const char c = ++at_ < text_.size() ? text_[at_] : '\0';
    if (c == 'n') out += '\n';
    else if (c == 't') out += '\t';
    else if (c != 'u') out += c;
    else {
      require<FormatError>(at_ + 4 < text_.size(), place_, ": the escape is not complete");
      std::uint32_t point = 0;
      const char* const begin = text_.data() + at_ + 1;
      const auto [end, failed] = std::from_chars(begin, begin + 4, point, 16);
      require<FormatError>(failed == std::errc() && end == begin + 4 && (point < 0xD800 || point > 0xDFFF), place_,
                           ": the escape \\u", text_.substr(at_ + 1, 4), " names no character");
      append_utf8(out, static_cast<char32_t>(point));
      at_ += 4;
    }
  }

  std::string_view text_;
  std::string place_;
  std::size_t at_ = 0;
};

/// Removes what killed processes left of a run's own files: temporary files of the folder's own names, and those in its
/// own folders. Links are not followed, and nothing else is touched. Only under the lock of the folder.
KDLIB_FUNC void remove_own_temporaries(const std::string& folder) {
  for (const std::string& name : list_directory(folder)) {
    const bool own = std::any_of(run_names().begin(), run_names().end(),
                                 [&](const std::string& known) { return name.rfind(known + ".tmp-", 0) == 0; });
    const std::string path = join_path(folder, name);
    struct stat status {};
    if (own && pid_of_temporary(name) > 0 && ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode))
      remove_tree(path);
  }
  for (const std::string& name : run_names()) {
    const std::string path = join_path(folder, name);
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) remove_stale_temporaries_below(path);
  }
}

}  // namespace detail

KDLIB_FUNC void FolderLock::release() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

KDLIB_FUNC void FolderLock::take(const std::string& folder) {
  release();
  fd_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require<IoError>(fd_ >= 0, "[distil] ", folder, " cannot be opened as a folder");
  require<IoError>(::flock(fd_, LOCK_EX | LOCK_NB) == 0, "[distil] ", folder,
                   " is in use by another process; wait for it or choose another --out");
}

KDLIB_FUNC std::string run_config_text(const std::vector<DescribedSetting>& settings) {
  std::string out;
  for (const DescribedSetting& s : settings) {
    out += s.key + ": ";
    if (s.form == DescribedSetting::Form::list) {
      out += "[";
      for (std::size_t i = 0; i < s.values.size(); ++i) out += (i == 0 ? "" : ", ") + detail::yaml_quoted(s.values[i]);
      out += "]";
    } else {
      out += s.form == DescribedSetting::Form::text ? detail::yaml_quoted(s.text()) : s.text();
    }
    out += (s.unit.empty() ? std::string() : concat("  # ", s.unit)) + "\n";
  }
  return out;
}

KDLIB_FUNC std::vector<DescribedSetting> read_run_config(const std::string& path) {
  const std::string text = read_file(path, std::uint64_t{1} << 20);
  std::vector<DescribedSetting> out;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(' ') == std::string_view::npos || line[line.find_first_not_of(' ')] == '#') continue;
    const std::size_t colon = line.find(':');
    require<FormatError>(colon != std::string_view::npos && colon > 0 && line[0] != ' ', path, ":", number,
                         ": not a line of a run's config.yaml (name: value)");
    DescribedSetting setting{std::string(line.substr(0, colon)), {}, {}, ""};
    detail::YamlValueReader(line.substr(colon + 1), concat(path, ":", number)).read(setting);
    out.push_back(std::move(setting));
  }
  return out;
}

KDLIB_FUNC std::string RunFolder::file(const char* name) const { return join_path(path_, name); }

KDLIB_FUNC bool RunFolder::has(const char* name) const { return path_exists(file(name)); }

KDLIB_FUNC void RunFolder::check_same(const std::vector<DescribedSetting>& settings) const {
  const std::string path = file("config.yaml");
  const std::vector<DescribedSetting> before = read_run_config(path);
  for (const DescribedSetting& now : settings) {
    if (free_recipe_setting(now.key)) continue;
    for (const DescribedSetting& old : before)
      require<SettingsError>(old.key != now.key || old.text() == now.text() ||
                                 (old.key == "dtype" && old.text() == "auto"),  // as earlier versions recorded it
                             "[distil] ", path, " has ", now.key, ": ", old.text(), ", this command has ", now.text(),
                             ": continue with the old value, use another --out, or start over with --resume no");
  }
}

KDLIB_FUNC std::vector<std::string> RunFolder::earlier_files() const {
  std::vector<std::string> found;
  const RunOutputs outputs = RunOutputs::read(path_);
  for (const std::string& name : outputs.names())
    if (name != "outputs.json" && detail::name_is_taken(file(name.c_str()))) found.push_back(name);
  return found;
}

KDLIB_FUNC void RunFolder::open() {
  lock_.take(path_);
  detail::remove_own_temporaries(path_);
  outputs_ = RunOutputs::read(path_);
}

KDLIB_FUNC void RunFolder::prepare(const std::vector<DescribedSetting>& settings, bool start_over) {
  make_directories(path_);
  open();
  if (start_over) outputs_.remove_all();
  outputs_.forget_missing();
  outputs_.claim({"outputs.json", "config.yaml", "inputs.json"});
  // Replaced, never missing: the folder stays recognisable as a run's.
  if (start_over || !has("config.yaml")) write_file_atomically(file("config.yaml"), run_config_text(settings));
}

KDLIB_NAMESPACE_END

#endif
