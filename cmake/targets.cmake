# SPDX-License-Identifier: Apache-2.0
# kdlib::kdlib, kdlib::cpu, kdlib::cuda, kdlib::cuda_emulated, kdlib::instances. No -m flag, warning or optimisation
# ever goes into them.
include(${CMAKE_CURRENT_LIST_DIR}/headers.cmake)
include(GNUInstallDirs)

set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)  # so that a parent project that links kdlib::cpu sees what it links
find_package(RapidJSONHeaders QUIET)
if(NOT TARGET RapidJSON::Headers)
  message(FATAL_ERROR "kdlib: RapidJSON's headers are needed (Debian and Ubuntu: apt-get install rapidjson-dev)")
endif()

add_library(kdlib INTERFACE)
add_library(kdlib::kdlib ALIAS kdlib)
target_compile_features(kdlib INTERFACE cxx_std_20)
target_sources(kdlib INTERFACE FILE_SET HEADERS
  BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${KDLIB_HEADERS})
find_package(Threads REQUIRED)
target_link_libraries(kdlib INTERFACE RapidJSON::Headers Threads::Threads)

# Refuses a value of an option for an optional part that is none of auto (where it is found), ON and OFF.
function(kdlib_check_auto option)
  if(NOT ${option} MATCHES "^(auto|ON|OFF)$")
    message(FATAL_ERROR "kdlib: ${option} is '${${option}}'; it must be auto, ON or OFF")
  endif()
endfunction()

set(KDLIB_WITH_PCRE2 OFF)
kdlib_check_auto(KDLIB_PCRE2)
if(KDLIB_PCRE2)
  find_package(PCRE2 QUIET MODULE)
  if(PCRE2_FOUND)
    set(KDLIB_WITH_PCRE2 ON)
    target_link_libraries(kdlib INTERFACE PCRE2::8BIT)
    target_compile_definitions(kdlib INTERFACE KDLIB_WITH_PCRE2=1 PCRE2_CODE_UNIT_WIDTH=8)
  elseif(NOT KDLIB_PCRE2 STREQUAL "auto")
    message(FATAL_ERROR "kdlib: KDLIB_PCRE2=ON is asked for and PCRE2 is not found; use KDLIB_PCRE2=OFF to go without "
      "(Debian and Ubuntu: apt-get install libpcre2-dev)")
  endif()
endif()

# kdlib::remote: teachers on other machines (kdlib/teacher/remote.hpp), by libcurl.
kdlib_check_auto(KDLIB_REMOTE)
if(KDLIB_REMOTE)
  find_package(CURL 7.68 QUIET)
  if(CURL_FOUND)
    add_library(kdlib_remote INTERFACE)
    add_library(kdlib::remote ALIAS kdlib_remote)
    set_target_properties(kdlib_remote PROPERTIES EXPORT_NAME remote)
    target_link_libraries(kdlib_remote INTERFACE kdlib CURL::libcurl)
    target_compile_definitions(kdlib_remote INTERFACE KDLIB_WITH_REMOTE=1)
  elseif(KDLIB_REMOTE STREQUAL "ON")
    message(FATAL_ERROR "kdlib: KDLIB_REMOTE=ON is asked for and libcurl 7.68 or later is not found; use "
      "KDLIB_REMOTE=OFF to go without (Debian and Ubuntu: apt-get install libcurl4-openssl-dev)")
  elseif(PROJECT_IS_TOP_LEVEL)
    message(STATUS "kdlib: no libcurl, so programs refuse teachers on other machines")
  endif()
endif()

# kdlib::hdf5: teachers' caches in HDF5 (kdlib/hdf5.hpp).
kdlib_check_auto(KDLIB_HDF5)
if(KDLIB_HDF5)
  find_package(HDF5C 1.10 QUIET MODULE)
  if(HDF5C_FOUND)
    add_library(kdlib_hdf5 INTERFACE)
    add_library(kdlib::hdf5 ALIAS kdlib_hdf5)
    set_target_properties(kdlib_hdf5 PROPERTIES EXPORT_NAME hdf5)
    target_link_libraries(kdlib_hdf5 INTERFACE kdlib HDF5C::HDF5C)
    target_compile_definitions(kdlib_hdf5 INTERFACE KDLIB_WITH_HDF5=1)
  elseif(KDLIB_HDF5 STREQUAL "ON")
    message(FATAL_ERROR "kdlib: KDLIB_HDF5=ON is asked for and HDF5 1.10 or later is not found; use KDLIB_HDF5=OFF to "
      "go without (Debian and Ubuntu: apt-get install libhdf5-dev)")
  endif()
endif()

# kdlib::arrow: rows of Parquet files (kdlib/arrow.hpp).
kdlib_check_auto(KDLIB_ARROW)
if(KDLIB_ARROW)
  find_package(ArrowParquet 21 QUIET MODULE)
  if(ArrowParquet_FOUND)
    include("${PROJECT_SOURCE_DIR}/cmake/kdlibArrow.cmake")
  elseif(KDLIB_ARROW STREQUAL "ON")
    message(FATAL_ERROR "kdlib: KDLIB_ARROW=ON is asked for and Apache Arrow 21 or later with Parquet is not found; "
      "scripts/arrow puts the wheel pyarrow where it is looked for (KDLIB_ARROW_PYTHON), KDLIB_ARROW=OFF goes without")
  endif()
endif()

# kdlib::mpi: ranks as the processes of an MPI job (kdlib/mpi.hpp).
kdlib_check_auto(KDLIB_MPI)
if(KDLIB_MPI)
  find_package(MPI QUIET COMPONENTS CXX)
  if(MPI_CXX_FOUND)
    include("${PROJECT_SOURCE_DIR}/cmake/kdlibMpi.cmake")
  elseif(NOT KDLIB_MPI STREQUAL "auto")
    message(FATAL_ERROR "kdlib: KDLIB_MPI=ON is asked for and MPI is not found; use KDLIB_MPI=OFF to go without "
      "(Debian and Ubuntu: apt-get install libopenmpi-dev openmpi-bin)")
  endif()
endif()

# kdlib::nccl: ranks with a GPU each (kdlib/nccl.hpp).
kdlib_check_auto(KDLIB_NCCL)
if(KDLIB_NCCL)
  find_package(NCCL 2.18 QUIET MODULE)
  if(NCCL_FOUND)
    include("${PROJECT_SOURCE_DIR}/cmake/kdlibNccl.cmake")
  elseif(NOT KDLIB_NCCL STREQUAL "auto")
    message(FATAL_ERROR "kdlib: KDLIB_NCCL=ON is asked for and NCCL 2.18 or later or the CUDA toolkit is not found; "
      "use KDLIB_NCCL=OFF to go without (NVIDIA's packages: libnccl-dev)")
  endif()
endif()

# kdlib::cpu: Eigen 3.4 or later (its version files of 3.4 and 5 refuse each other's requests, so none is asked for).
find_package(Eigen3 CONFIG QUIET)
if(NOT Eigen3_FOUND)
  message(FATAL_ERROR "kdlib: Eigen 3.4 or later is needed by kdlib::cpu "
    "(Debian and Ubuntu: apt-get install libeigen3-dev)")
endif()
if(Eigen3_VERSION AND Eigen3_VERSION VERSION_LESS 3.4)
  message(FATAL_ERROR "kdlib: found Eigen ${Eigen3_VERSION}; kdlib::cpu needs 3.4 or later")
endif()

add_library(kdlib_cpu INTERFACE)
add_library(kdlib::cpu ALIAS kdlib_cpu)
set_target_properties(kdlib_cpu PROPERTIES EXPORT_NAME cpu)
target_link_libraries(kdlib_cpu INTERFACE kdlib Eigen3::Eigen)

set(KDLIB_BLAS_VENDOR "")
if(KDLIB_BLAS STREQUAL "auto")
  set(CBLAS_VENDOR OpenBLAS)
  find_package(CBLAS QUIET)
  if(CBLAS_FOUND)
    set(KDLIB_BLAS_VENDOR OpenBLAS)
  endif()
elseif(KDLIB_BLAS STREQUAL "OpenBLAS" OR KDLIB_BLAS STREQUAL "MKL")
  set(CBLAS_VENDOR ${KDLIB_BLAS})
  find_package(CBLAS)
  if(NOT CBLAS_FOUND)
    message(FATAL_ERROR "kdlib: KDLIB_BLAS=${KDLIB_BLAS} is asked for and not found; "
      "use KDLIB_BLAS=none for Eigen alone (Debian and Ubuntu: apt-get install libopenblas-dev)")
  endif()
  set(KDLIB_BLAS_VENDOR ${KDLIB_BLAS})
elseif(NOT KDLIB_BLAS STREQUAL "none")
  message(FATAL_ERROR "kdlib: KDLIB_BLAS is '${KDLIB_BLAS}'; it must be auto, OpenBLAS, MKL or none")
endif()
if(KDLIB_BLAS_VENDOR)
  target_link_libraries(kdlib_cpu INTERFACE CBLAS::CBLAS)
  target_compile_definitions(kdlib_cpu INTERFACE KDLIB_WITH_CBLAS=1)
  if(KDLIB_BLAS_VENDOR STREQUAL "OpenBLAS")
    target_compile_definitions(kdlib_cpu INTERFACE KDLIB_WITH_OPENBLAS=1)
  else()
    target_compile_definitions(kdlib_cpu INTERFACE KDLIB_WITH_MKL=1)
  endif()
endif()
if(PROJECT_IS_TOP_LEVEL)
  if(KDLIB_BLAS_VENDOR)
    message(STATUS "kdlib: BLAS ${KDLIB_BLAS_VENDOR} (${CBLAS_LIBRARY})")
  else()
    message(STATUS "kdlib: no BLAS, Eigen alone")
  endif()
endif()

# Products of bf16 matrices: oneDNN, which is used where the CPU has BF16 instructions.
set(KDLIB_WITH_ONEDNN OFF)
kdlib_check_auto(KDLIB_ONEDNN)
if(KDLIB_ONEDNN)
  find_package(ONEDNN 2.6 QUIET MODULE)
  if(ONEDNN_FOUND)
    set(KDLIB_WITH_ONEDNN ON)
    include(${CMAKE_CURRENT_LIST_DIR}/kdlibOneDnn.cmake)
    target_link_libraries(kdlib_cpu INTERFACE $<BUILD_INTERFACE:kdlib_onednn>)
  elseif(KDLIB_ONEDNN STREQUAL "ON")
    message(FATAL_ERROR "kdlib: KDLIB_ONEDNN=ON is asked for and oneDNN 2.6 or later, built with OpenMP, a thread pool "
      "or no threads, is not found; use KDLIB_ONEDNN=OFF to go without "
      "(Debian and Ubuntu: apt-get install libdnnl-dev)")
  endif()
endif()
if(PROJECT_IS_TOP_LEVEL)
  if(KDLIB_WITH_ONEDNN)
    message(STATUS "kdlib: products of bf16 by oneDNN ${ONEDNN_VERSION} (${ONEDNN_LIBRARY})")
  else()
    message(STATUS "kdlib: no oneDNN, products of bf16 in float")
  endif()
endif()

include(${CMAKE_CURRENT_LIST_DIR}/kdlibInstances.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/kdlibCudaEmulated.cmake)
if(KDLIB_CUDA)
  find_package(CUDAToolkit QUIET)
  if(NOT CUDAToolkit_FOUND)
    message(FATAL_ERROR "kdlib: KDLIB_CUDA=ON needs the CUDA toolkit 12 or later with cuBLASLt, which is not here; "
      "configure with -DKDLIB_CUDA=OFF for the CPU alone")
  endif()
  include(${CMAKE_CURRENT_LIST_DIR}/kdlibCuda.cmake)
endif()
