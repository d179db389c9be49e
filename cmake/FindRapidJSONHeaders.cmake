# SPDX-License-Identifier: Apache-2.0
# Finds RapidJSON's headers (1.1 or later). Its own package file differs between distributions (some set only variables,
# some no target, some write absolute paths), so the headers are looked up directly. Makes RapidJSON::Headers.
find_path(RAPIDJSON_HEADER_DIR NAMES rapidjson/document.h)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(RapidJSONHeaders REQUIRED_VARS RAPIDJSON_HEADER_DIR)
if(RapidJSONHeaders_FOUND AND NOT TARGET RapidJSON::Headers)
  add_library(RapidJSON::Headers INTERFACE IMPORTED)
  set_target_properties(RapidJSON::Headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${RAPIDJSON_HEADER_DIR}")
endif()
mark_as_advanced(RAPIDJSON_HEADER_DIR)
