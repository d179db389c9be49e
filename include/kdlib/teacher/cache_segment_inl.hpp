// SPDX-License-Identifier: Apache-2.0
// Bodies of cache_segment.hpp.
#ifndef KDLIB_TEACHER_CACHE_SEGMENT_INL_HPP
#define KDLIB_TEACHER_CACHE_SEGMENT_INL_HPP

#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/teacher/cache_segment.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC const Hdf5Functions*& installed_hdf5_functions() {
  static const Hdf5Functions* functions = nullptr;
  return functions;
}

}  // namespace detail

KDLIB_FUNC const Hdf5Functions& hdf5_functions(const std::string& path) {
  const Hdf5Functions* functions = detail::installed_hdf5_functions();
  require<BackendError>(functions != nullptr, "[teacher cache] ", path,
                        ": this program was built without HDF5; it needs kdlib's component hdf5 (KDLIB_HDF5=ON; Debian "
                        "and Ubuntu: apt-get install libhdf5-dev), or a cache of --format safetensors");
  return *functions;
}

KDLIB_FUNC CacheSegment::CacheSegment(std::string path) : path_(std::move(path)) {
  if (path_.ends_with(".h5")) arrays_ = hdf5_functions(path_).read(path_);
  else file_.emplace(path_);
}

KDLIB_FUNC const TensorInfo* CacheSegment::find(std::string_view name) const {
  if (file_) return file_->find(name);
  for (const TensorInfo& t : arrays_.tensors)
    if (t.name == name) return &t;
  return nullptr;
}

KDLIB_FUNC const TensorInfo& CacheSegment::at(std::string_view name) const {
  if (file_) return file_->at(name);
  const TensorInfo* t = find(name);
  require<FormatError>(t != nullptr, "[teacher cache] ", path_, " has no dataset \"", name, "\"");
  return *t;
}

KDLIB_FUNC std::optional<std::string_view> CacheSegment::metadata(std::string_view key) const {
  if (file_) return file_->metadata(key);
  for (const auto& [name, value] : arrays_.metadata)
    if (name == key) return std::string_view(value);
  return std::nullopt;
}

KDLIB_FUNC void write_cache_segment(const std::string& path, const CacheArrays& arrays, int gzip) {
  if (path.ends_with(".h5")) return hdf5_functions(path).write(path, arrays, gzip);
  SafetensorsWriter file(path);
  for (const auto& [key, value] : arrays.metadata) file.metadata(key, value);
  for (const TensorInfo& t : arrays.tensors) file.add(t);
  file.commit();
}

KDLIB_NAMESPACE_END

#endif
