// SPDX-License-Identifier: Apache-2.0
// Bodies of tar_stream.hpp.
#ifndef KDLIB_TOOLS_SERVICE_TAR_STREAM_INL_HPP
#define KDLIB_TOOLS_SERVICE_TAR_STREAM_INL_HPP

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "kdlib/io/paths.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"
#include "kdlib/tools/service/tar_stream.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC TarStream::TarStream(const std::string& folder, const std::string& name) { gather(folder, name, 0); }

KDLIB_TOOLS_FUNC void TarStream::gather(const std::string& folder, const std::string& name, int depth) {
  require<IoError>(depth < 16, "[serve] ", folder, ": folders lie too deep for an archive");
  for (const std::string& entry : list_directory(folder)) {
    struct stat status {};
    const std::string path = join_path(folder, entry);
    if (::lstat(path.c_str(), &status) != 0) continue;
    if (S_ISDIR(status.st_mode)) gather(path, name + "/" + entry, depth + 1);
    else if (S_ISREG(status.st_mode))
      entries_.push_back({path, name + "/" + entry, static_cast<std::uint64_t>(status.st_size)});
  }
}

namespace detail {
KDLIB_TOOLS_FUNC std::string tar_header(const std::string& name, std::uint64_t size) {
  std::string block(512, '\0');
  std::size_t split = 0;  // names longer than 100 bytes are cut at a slash
  if (name.size() > 100) split = name.find('/', name.size() - 101);
  require<IoError>(name.size() <= 100 || split <= 155, "[serve] ", name, ": too long a name for an archive");
  const std::string base = name.size() > 100 ? name.substr(split + 1) : name;
  const auto put = [&](std::size_t at, const std::string& text) { block.replace(at, text.size(), text); };
  const auto octal = [](std::uint64_t value, int digits) {
    char text[24];
    std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
    return std::string(text);
  };
  require<IoError>(size < (std::uint64_t{1} << 33), "[serve] ", name, ": files of an archive have at most 8 GiB");
  put(0, base);
  put(100, octal(0644, 7)), put(108, octal(0, 7)), put(116, octal(0, 7)), put(124, octal(size, 11)),
      put(136, octal(0, 11));
  put(148, "        ");
  block[156] = '0';
  put(257, std::string("ustar\0"
                       "00",
                       8));
  if (name.size() > 100) put(345, name.substr(0, split));
  std::uint64_t sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  put(148, octal(sum, 6) + std::string("\0 ", 2));
  return block;
}
}  // namespace detail

KDLIB_TOOLS_FUNC bool TarStream::next(std::string& piece) {
  piece.clear();
  if (ended_) return false;
  if (left_ > 0) {
    const std::uint64_t wanted = std::min<std::uint64_t>(left_, 1 << 16), done = entries_[at_ - 1].size - left_;
    piece = detail::read_range(file_.get(), done, done + wanted);
    piece.resize(static_cast<std::size_t>(wanted));  // a file that has shrunk is filled with zeros
    left_ -= wanted;
    if (left_ == 0) piece.append(static_cast<std::size_t>(padding_), '\0');
    return true;
  }
  if (at_ == entries_.size()) {
    ended_ = true;
    piece.assign(1024, '\0');
    return true;
  }
  const Entry& entry = entries_[at_++];
  file_ = detail::open_descriptor(entry.path, O_RDONLY | O_NOFOLLOW);
  piece = detail::tar_header(entry.name, entry.size);
  left_ = entry.size;
  padding_ = (512 - entry.size % 512) % 512;
  return true;
}

KDLIB_NAMESPACE_END

#endif
