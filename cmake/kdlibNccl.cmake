# SPDX-License-Identifier: Apache-2.0
# kdlib::nccl: ranks with a GPU each (kdlib/nccl.hpp), compiled against the NCCL and the CUDA runtime of the project
# that uses it. Used by kdlib's own tree and by the installed package.
if(NOT TARGET kdlib::nccl)
  if(KDLIB_SHARE_DIR)
    set(kdlib_nccl_source "${KDLIB_SHARE_DIR}/src/nccl/nccl.cpp")
  else()
    set(kdlib_nccl_source "${CMAKE_CURRENT_LIST_DIR}/../src/nccl/nccl.cpp")
  endif()
  if(NOT TARGET NCCL::NCCL)
    list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
    find_package(NCCL 2.18 REQUIRED MODULE)
    list(POP_FRONT CMAKE_MODULE_PATH)
  endif()
  add_library(kdlib_nccl STATIC EXCLUDE_FROM_ALL "${kdlib_nccl_source}")
  add_library(kdlib::nccl ALIAS kdlib_nccl)
  target_link_libraries(kdlib_nccl PUBLIC kdlib::kdlib PRIVATE NCCL::NCCL)
  target_compile_definitions(kdlib_nccl INTERFACE KDLIB_WITH_NCCL=1)
endif()
