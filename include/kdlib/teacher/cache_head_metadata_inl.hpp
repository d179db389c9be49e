// SPDX-License-Identifier: Apache-2.0
// Body of cache_head.hpp that does not depend on a device.
#ifndef KDLIB_TEACHER_CACHE_HEAD_METADATA_INL_HPP
#define KDLIB_TEACHER_CACHE_HEAD_METADATA_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/teacher/cache_head.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC double metadata_number(const SafetensorsFile& file, const char* key) {
  const auto text = file.metadata(key);
  require<FormatError>(text.has_value(), "[teacher cache] ", file.path(), " has no ", key, " in its metadata");
  return Json::parse(std::string(*text), concat(file.path(), ": ", key)).as_double();
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
