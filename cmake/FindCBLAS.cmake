# SPDX-License-Identifier: Apache-2.0
# Finds a BLAS with cblas.h. CBLAS_VENDOR: OpenBLAS or MKL. Makes the target CBLAS::CBLAS.
# Installed beside kdlibConfig.cmake, so it must not remember any path of the machine it was installed from.
if(NOT CBLAS_VENDOR)
  set(CBLAS_VENDOR OpenBLAS)
endif()

if(CBLAS_VENDOR STREQUAL "OpenBLAS")
  find_path(CBLAS_INCLUDE_DIR NAMES openblas_config.h
    PATH_SUFFIXES openblas openblas-pthread x86_64-linux-gnu/openblas-pthread aarch64-linux-gnu/openblas-pthread)
  find_library(CBLAS_LIBRARY NAMES openblas PATH_SUFFIXES openblas openblas-pthread)
elseif(CBLAS_VENDOR STREQUAL "MKL")
  find_path(CBLAS_INCLUDE_DIR NAMES mkl_cblas.h HINTS $ENV{MKLROOT}/include PATH_SUFFIXES mkl)
  find_library(CBLAS_LIBRARY NAMES mkl_rt HINTS $ENV{MKLROOT}/lib $ENV{MKLROOT}/lib/intel64)
else()
  message(FATAL_ERROR "kdlib: CBLAS_VENDOR is '${CBLAS_VENDOR}'; it must be OpenBLAS or MKL")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CBLAS REQUIRED_VARS CBLAS_LIBRARY CBLAS_INCLUDE_DIR)
if(CBLAS_FOUND AND NOT TARGET CBLAS::CBLAS)
  add_library(CBLAS::CBLAS UNKNOWN IMPORTED)
  set_target_properties(CBLAS::CBLAS PROPERTIES
    IMPORTED_LOCATION "${CBLAS_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${CBLAS_INCLUDE_DIR}")
endif()
mark_as_advanced(CBLAS_INCLUDE_DIR CBLAS_LIBRARY)
