# SPDX-License-Identifier: Apache-2.0
# kdlib::cuda_emulated: the CUDA backend for a device that is emulated on the host. The .cu files of src/cuda are
# compiled by the host compiler, through one generated .cpp each; runtime and products come from src/cuda_emulated.
# Needs no toolkit and no GPU. Used by kdlib's own tree and by the installed package.
if(NOT TARGET kdlib::cuda_emulated)
  if(KDLIB_SHARE_DIR)
    set(kdlib_emulated_sources "${KDLIB_SHARE_DIR}/src")
  else()
    set(kdlib_emulated_sources "${CMAKE_CURRENT_LIST_DIR}/../src")
  endif()
  file(GLOB kdlib_emulated_files CONFIGURE_DEPENDS "${kdlib_emulated_sources}/cuda_emulated/*.cpp")
  foreach(shared dry_run graph_memory)
    list(APPEND kdlib_emulated_files "${kdlib_emulated_sources}/cuda/${shared}.cpp")
  endforeach()
  file(GLOB kdlib_emulated_kernels CONFIGURE_DEPENDS "${kdlib_emulated_sources}/cuda/*.cu")
  foreach(kernel IN LISTS kdlib_emulated_kernels)
    get_filename_component(stem "${kernel}" NAME_WE)
    set(source "${CMAKE_CURRENT_BINARY_DIR}/kdlib_cuda_emulated/${stem}.cpp")
    file(CONFIGURE OUTPUT "${source}" CONTENT "#include \"${kernel}\"\n" @ONLY)
    list(APPEND kdlib_emulated_files "${source}")
  endforeach()
  add_library(kdlib_cuda_emulated STATIC EXCLUDE_FROM_ALL ${kdlib_emulated_files})
  add_library(kdlib::cuda_emulated ALIAS kdlib_cuda_emulated)
  target_link_libraries(kdlib_cuda_emulated PUBLIC kdlib::kdlib)
  target_compile_definitions(kdlib_cuda_emulated PUBLIC $<$<COMPILE_LANGUAGE:CXX>:KDLIB_CUDA_EMULATED=1>)
  # Kernels are compiled quickly; the products' inner loop is worth its optimisation.
  target_compile_options(kdlib_cuda_emulated PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O1>)
  set_source_files_properties("${kdlib_emulated_sources}/cuda_emulated/blas.cpp" PROPERTIES COMPILE_OPTIONS -O3)
endif()
