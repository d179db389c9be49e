// SPDX-License-Identifier: Apache-2.0
// A folder as a tar archive (POSIX ustar), piece by piece.
#ifndef KDLIB_TOOLS_SERVICE_TAR_STREAM_HPP
#define KDLIB_TOOLS_SERVICE_TAR_STREAM_HPP

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

/// Regular files of a folder and those below it; links are left out. A file that shrinks meanwhile is filled with
/// zeros.
class TarStream {
 public:
  /// `name`: the folder's name in the archive. IoError.
  TarStream(const std::string& folder, const std::string& name);
  /// Fills the next piece, 64 KiB or so; false when the archive is complete.
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
