// SPDX-License-Identifier: Apache-2.0
// One file of a teacher's cache: named arrays and texts, in safetensors or, where the program links the component hdf5,
// in HDF5.
#ifndef KDLIB_TEACHER_CACHE_SEGMENT_HPP
#define KDLIB_TEACHER_CACHE_SEGMENT_HPP

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/io/safetensors.hpp"
#include "kdlib/teacher/cache_settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Arrays and texts on their way to or from a file.
struct CacheArrays {
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<TensorInfo> tensors;
  std::vector<std::shared_ptr<const std::vector<std::byte>>> buffers;  // own the bytes of tensors that were read
};

/// What the component hdf5 adds (kdlib/hdf5.hpp, use_hdf5_caches()).
struct Hdf5Functions {
  /// FormatError, IoError naming the file.
  CacheArrays (*read)(const std::string& path) = nullptr;
  /// The file appears at once. `gzip`: 0 (none) to 9.
  void (*write)(const std::string& path, const CacheArrays& arrays, int gzip) = nullptr;
};

/// The installed functions. BackendError naming `path`, the component and its package where there are none.
const Hdf5Functions& hdf5_functions(const std::string& path);

/// A file that is open for reading. Tensors live as long as this object.
class CacheSegment {
 public:
  /// By the name's ending: .safetensors is mapped, .h5 is read into memory. FormatError, IoError; BackendError where
  /// HDF5 is not there.
  explicit CacheSegment(std::string path);

  const TensorInfo* find(std::string_view name) const;
  /// FormatError when there is none of that name.
  const TensorInfo& at(std::string_view name) const;
  std::optional<std::string_view> metadata(std::string_view key) const;
  const std::string& path() const { return path_; }
  /// The file is in memory and not mapped.
  bool in_memory() const { return !file_; }

 private:
  std::string path_;
  std::optional<SafetensorsFile> file_;
  CacheArrays arrays_;
};

/// Writes a segment: all at once, complete and on disk when this returns.
void write_cache_segment(const std::string& path, const CacheArrays& arrays, int gzip);

namespace detail {
/// nullptr until use_hdf5_caches() was called.
const Hdf5Functions*& installed_hdf5_functions();
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_segment_inl.hpp"
#endif

#endif
