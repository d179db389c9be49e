// SPDX-License-Identifier: Apache-2.0
// Bodies of io/mapped_file.hpp.
#ifndef KDLIB_IO_MAPPED_FILE_INL_HPP
#define KDLIB_IO_MAPPED_FILE_INL_HPP

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "kdlib/io/mapped_file.hpp"
#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  std::size_t bytes = 0;
  const detail::FileDescriptor fd = detail::open_regular_file("open", path_, bytes);
  require<IoError>(bytes != 0, "[open] ", path_, ": the file is empty; fetch or write it again");
  void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (mapped == MAP_FAILED) detail::fail_io("mmap", path_, errno);
  data_ = static_cast<const std::byte*>(mapped);
  size_ = bytes;
}

KDLIB_FUNC MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

KDLIB_FUNC MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  unmap();
  path_ = std::move(other.path_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

KDLIB_FUNC MappedFile::~MappedFile() { unmap(); }

KDLIB_FUNC void MappedFile::unmap() noexcept {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  data_ = nullptr;
  size_ = 0;
}

KDLIB_FUNC void release_pages(std::span<const std::byte> bytes) noexcept {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page,
             end = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

KDLIB_NAMESPACE_END

#endif
