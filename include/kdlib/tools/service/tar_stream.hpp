// SPDX-License-Identifier: Apache-2.0
// Makes a tar archive (POSIX ustar) of a folder, piece by piece.
#ifndef KDLIB_TOOLS_SERVICE_TAR_STREAM_HPP
#define KDLIB_TOOLS_SERVICE_TAR_STREAM_HPP

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

/// An archive of the regular files in a folder and in the folders below it; links are left out. If a file becomes
/// shorter while the archive is made, it is filled up with zeros.
class TarStream {
 public:
  /// `name` is the name of the folder in the archive. IoError: a folder cannot be read, or folders are nested 16 levels
  /// deep or more.
  TarStream(const std::string& folder, const std::string& name);
  /// Fills the next piece, about 64 KiB at most. Returns false when the archive is complete. IoError: a name is too
  /// long or a file has 8 GiB or more.
  bool next(std::string& piece);

 private:
  void gather(const std::string& folder, const std::string& name, int depth);

  struct Entry {
    std::string path, name;
    std::uint64_t size;
  };
  std::vector<Entry> entries_;
  std::size_t at_ = 0;
  std::uint64_t left_ = 0, padding_ = 0;
  bool ended_ = false;
  detail::FileDescriptor file_;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/tar_stream_inl.hpp"
#endif

#endif
