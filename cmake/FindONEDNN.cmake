# SPDX-License-Identifier: Apache-2.0
# Finds oneDNN, 2.6 or later (dnnl.h, libdnnl), whose threads are of OpenMP, of a thread pool or none. Makes the target
# ONEDNN::ONEDNN. oneDNN's own files also look for what its GPU part needs, so they are not used.
# Installed beside kdlibConfig.cmake, so it must not remember any path of the machine it was installed from.
find_path(ONEDNN_INCLUDE_DIR NAMES oneapi/dnnl/dnnl_version.h)
find_library(ONEDNN_LIBRARY NAMES dnnl)
set(ONEDNN_VERSION "")
set(onednn_threads "")
if(ONEDNN_INCLUDE_DIR)
  set(onednn_folder "${ONEDNN_INCLUDE_DIR}/oneapi/dnnl")
  file(STRINGS "${onednn_folder}/dnnl_version.h" onednn_lines
    REGEX "#define DNNL_VERSION_(MAJOR|MINOR|PATCH)[ \t]+[0-9]+")
  string(REGEX REPLACE "[^;]*VERSION_[A-Z]+[ \t]+([0-9]+)[^;]*;?" "\\1." ONEDNN_VERSION "${onednn_lines}")
  string(REGEX REPLACE "\\.$" "" ONEDNN_VERSION "${ONEDNN_VERSION}")
  if(EXISTS "${onednn_folder}/dnnl_config.h")
    file(STRINGS "${onednn_folder}/dnnl_config.h" onednn_lines
      REGEX "#define DNNL_CPU_THREADING_RUNTIME[ \t]+DNNL_RUNTIME_")
    if(onednn_lines MATCHES "DNNL_RUNTIME_(OMP|SEQ|THREADPOOL)")
      set(onednn_threads ${CMAKE_MATCH_1})
    endif()
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ONEDNN REQUIRED_VARS ONEDNN_LIBRARY ONEDNN_INCLUDE_DIR onednn_threads
  VERSION_VAR ONEDNN_VERSION)
if(ONEDNN_FOUND AND NOT TARGET ONEDNN::ONEDNN)
  add_library(ONEDNN::ONEDNN UNKNOWN IMPORTED)
  set_target_properties(ONEDNN::ONEDNN PROPERTIES
    IMPORTED_LOCATION "${ONEDNN_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${ONEDNN_INCLUDE_DIR}")
  if(ONEDNN_LIBRARY MATCHES "\\.a$" AND onednn_threads STREQUAL "OMP")
    find_package(OpenMP QUIET COMPONENTS CXX)
    if(TARGET OpenMP::OpenMP_CXX)
      set_property(TARGET ONEDNN::ONEDNN APPEND PROPERTY INTERFACE_LINK_LIBRARIES OpenMP::OpenMP_CXX)
    endif()
  endif()
endif()
mark_as_advanced(ONEDNN_INCLUDE_DIR ONEDNN_LIBRARY)
