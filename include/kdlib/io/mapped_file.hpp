// SPDX-License-Identifier: Apache-2.0
// A file mapped into memory, read-only: weights are read from disk when they are touched, and never copied to be looked
// at.
#ifndef KDLIB_IO_MAPPED_FILE_HPP
#define KDLIB_IO_MAPPED_FILE_HPP

#include <cstddef>
#include <span>
#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Maps a whole regular file. Spans handed out live as long as this object (a move keeps them valid).
/// IoError: missing, unreadable, a folder, not a regular file, empty. A file that another program shortens while it is
/// mapped ends the process with SIGBUS when the lost part is read: replace files by renaming, as AtomicFile does.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(std::string path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  void unmap() noexcept;

  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Gives the whole pages inside `bytes`, a part of a mapped file, back to the system. They are read from the file again
/// when they are touched.
void release_pages(std::span<const std::byte> bytes) noexcept;

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/mapped_file_inl.hpp"
#endif

#endif
