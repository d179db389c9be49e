// SPDX-License-Identifier: Apache-2.0
// A segment is one file of a teacher's cache: named arrays and texts. Its format is safetensors or, if the program
// links the component hdf5, HDF5.
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

/// The arrays and texts of a file, in memory.
struct CacheArrays {
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<TensorInfo> tensors;
  std::vector<std::shared_ptr<const std::vector<std::byte>>> buffers;  // these own the bytes of `tensors` after reading
};

/// The functions that the component hdf5 adds (kdlib/hdf5.hpp, use_hdf5_caches()).
struct Hdf5Functions {
  /// Reads a file. FormatError and IoError name the file.
  CacheArrays (*read)(const std::string& path) = nullptr;
  /// Writes a file, which becomes visible only when it is complete. `gzip` is the level of compression, from 0 (none)
  /// to 9.
  void (*write)(const std::string& path, const CacheArrays& arrays, int gzip) = nullptr;
};

/// Returns the installed functions. BackendError names `path`, the component and its package if none are installed.
const Hdf5Functions& hdf5_functions(const std::string& path);

/// A segment that is open for reading. Its tensors live as long as this object.
class CacheSegment {
 public:
  /// The ending of the name chooses the format: a file .h5 is read into memory, any other file is a safetensors file
  /// and is mapped. FormatError, IoError; BackendError: the program was built without HDF5.
  explicit CacheSegment(std::string path);

  const TensorInfo* find(std::string_view name) const;
  /// FormatError: there is no tensor of this name.
  const TensorInfo& at(std::string_view name) const;
  std::optional<std::string_view> metadata(std::string_view key) const;
  const std::string& path() const { return path_; }
  /// True if the file was read into memory, false if it is mapped.
  bool in_memory() const { return !file_; }

 private:
  std::string path_;
  std::optional<SafetensorsFile> file_;
  CacheArrays arrays_;
};

/// Writes a segment in the format that the ending of `path` names. When the function returns, the file is complete and
/// on disk; a partial file never becomes visible. `gzip` (0 to 9) is for HDF5 only.
void write_cache_segment(const std::string& path, const CacheArrays& arrays, int gzip);

namespace detail {
/// The installed functions; nullptr until use_hdf5_caches() is called.
const Hdf5Functions*& installed_hdf5_functions();
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/cache_segment_inl.hpp"
#endif

#endif
