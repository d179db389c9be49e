// SPDX-License-Identifier: Apache-2.0
// A file that is mapped into memory, read-only: weights are read from disk when they are touched, without a copy.
#ifndef KDLIB_IO_MAPPED_FILE_HPP
#define KDLIB_IO_MAPPED_FILE_HPP

#include <cstddef>
#include <span>
#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Maps a whole regular file. Spans that bytes() returns live as long as this object; a move keeps them valid. Throws
/// IoError if the file is missing, unreadable, empty or not a regular file. If another program shortens the file while
/// it is mapped, reading the lost part ends the process with SIGBUS. So replace files by renaming, as AtomicFile does.
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

/// Gives the whole memory pages inside `bytes`, a part of a mapped file, back to the system. These pages are read from
/// the file again when they are touched.
void release_pages(std::span<const std::byte> bytes) noexcept;

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/mapped_file_inl.hpp"
#endif

#endif
