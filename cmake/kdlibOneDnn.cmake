# SPDX-License-Identifier: Apache-2.0
# kdlib_onednn: products of bf16 by oneDNN (kdlib/backend/cpu/onednn.hpp), compiled in the project that includes this
# file, with its flags. Linking it makes Kernels<Cpu, bf16> use it. Used by kdlib's own tree and by the installed
# package, after ONEDNN::ONEDNN was found, and by Conan's package, whose target of oneDNN is onednn::onednn.
if(NOT TARGET kdlib_onednn)
  if(KDLIB_SHARE_DIR)
    set(kdlib_onednn_sources "${KDLIB_SHARE_DIR}/src")
  else()
    set(kdlib_onednn_sources "${CMAKE_CURRENT_LIST_DIR}/../src")
  endif()
  add_library(kdlib_onednn STATIC EXCLUDE_FROM_ALL "${kdlib_onednn_sources}/onednn/products.cpp")
  set(kdlib_onednn_library ONEDNN::ONEDNN)
  if(NOT TARGET ONEDNN::ONEDNN AND TARGET onednn::onednn)
    set(kdlib_onednn_library onednn::onednn)
  endif()
  target_link_libraries(kdlib_onednn PUBLIC kdlib::kdlib PRIVATE ${kdlib_onednn_library} ${CMAKE_DL_LIBS})
  set_target_properties(kdlib_onednn PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_definitions(kdlib_onednn INTERFACE $<$<COMPILE_LANGUAGE:CXX,CUDA>:KDLIB_WITH_ONEDNN=1>)
  get_target_property(kdlib_cpu_is_imported kdlib::cpu IMPORTED)
  if(kdlib_cpu_is_imported)
    set_property(TARGET kdlib::cpu APPEND PROPERTY INTERFACE_LINK_LIBRARIES kdlib_onednn)
  endif()
endif()
