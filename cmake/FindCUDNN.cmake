# SPDX-License-Identifier: Apache-2.0
# Finds cuDNN (cudnn.h, libcudnn: the system's, the CUDA toolkit's, or the one of the wheel nvidia-cudnn-cu13 beside the
# frontend) and the headers of its frontend, cudnn_frontend.h, in KDLIB_CUDNN_FRONTEND_DIR. Makes the target
# CUDNN::CUDNN with both, and NVRTC, which the frontend calls.
find_package(CUDAToolkit QUIET)
set(cudnn_wheel "${KDLIB_CUDNN_FRONTEND_DIR}/../nvidia/cudnn")
find_path(CUDNN_INCLUDE_DIR NAMES cudnn.h
  HINTS ENV CUDNN_ROOT ${CUDAToolkit_INCLUDE_DIRS} "${cudnn_wheel}" PATH_SUFFIXES include)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9
  HINTS ENV CUDNN_ROOT ${CUDAToolkit_LIBRARY_DIR} "${cudnn_wheel}" PATH_SUFFIXES lib lib64)
find_path(CUDNN_FRONTEND_INCLUDE_DIR NAMES cudnn_frontend.h HINTS "${KDLIB_CUDNN_FRONTEND_DIR}")
set(CUDNN_VERSION "")
if(CUDNN_INCLUDE_DIR AND EXISTS "${CUDNN_INCLUDE_DIR}/cudnn_version.h")
  file(STRINGS "${CUDNN_INCLUDE_DIR}/cudnn_version.h" cudnn_lines
    REGEX "#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)[ \t]+[0-9]+")
  if(NOT cudnn_lines AND EXISTS "${CUDNN_INCLUDE_DIR}/cudnn_version_v9.h")
    file(STRINGS "${CUDNN_INCLUDE_DIR}/cudnn_version_v9.h" cudnn_lines
      REGEX "#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)[ \t]+[0-9]+")
  endif()
  string(REGEX REPLACE "[^;0-9]*CUDNN_[A-Z]+[ \t]+([0-9]+)[^;]*;?" "\\1." CUDNN_VERSION "${cudnn_lines}")
  string(REGEX REPLACE "\\.$" "" CUDNN_VERSION "${CUDNN_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUDNN
  REQUIRED_VARS CUDNN_LIBRARY CUDNN_INCLUDE_DIR CUDNN_FRONTEND_INCLUDE_DIR CUDAToolkit_FOUND VERSION_VAR CUDNN_VERSION)
if(CUDNN_FOUND AND NOT TARGET CUDNN::CUDNN)
  add_library(CUDNN::CUDNN UNKNOWN IMPORTED)
  set_target_properties(CUDNN::CUDNN PROPERTIES
    IMPORTED_LOCATION "${CUDNN_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${CUDNN_INCLUDE_DIR};${CUDNN_FRONTEND_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "CUDA::cudart;CUDA::nvrtc")
endif()
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY CUDNN_FRONTEND_INCLUDE_DIR)
