# SPDX-License-Identifier: Apache-2.0
# kdlib_onednn: products of bf16 by oneDNN (kdlib/backend/cpu/onednn.hpp), compiled in the project that includes this
# file, with its flags. Linking it makes Kernels<Cpu, bf16> use it. Used by kdlib's own tree and by the installed package,
# after ONEDNN::ONEDNN was found.
if(NOT TARGET kdlib_onednn)
  if(KDLIB_SHARE_DIR)
    set(kdlib_onednn_sources "${KDLIB_SHARE_DIR}/src")
  else()
    set(kdlib_onednn_sources "${CMAKE_CURRENT_LIST_DIR}/../src")
  endif()
  add_library(kdlib_onednn STATIC EXCLUDE_FROM_ALL "${kdlib_onednn_sources}/onednn/products.cpp")
  target_link_libraries(kdlib_onednn PUBLIC kdlib::kdlib ONEDNN::ONEDNN ${CMAKE_DL_LIBS})
  set_target_properties(kdlib_onednn PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_definitions(kdlib_onednn INTERFACE $<$<COMPILE_LANGUAGE:CXX,CUDA>:KDLIB_WITH_ONEDNN=1>)
endif()
