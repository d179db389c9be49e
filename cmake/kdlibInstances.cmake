# SPDX-License-Identifier: Apache-2.0
# kdlib::functions: the functions without template parameters, compiled once. kdlib::instances: those and the common
# explicit instantiations (kdlib/backend/instances.hpp). Static libraries, compiled in the project that uses them, with
# that project's compiler and flags. Used by kdlib's own tree and by the installed package.
if(NOT TARGET kdlib::instances)
  if(KDLIB_SHARE_DIR)
    set(kdlib_instances_sources "${KDLIB_SHARE_DIR}/src")
  else()
    set(kdlib_instances_sources "${CMAKE_CURRENT_LIST_DIR}/../src")
  endif()
  file(GLOB kdlib_functions_files CONFIGURE_DEPENDS "${kdlib_instances_sources}/functions_*.cpp")
  file(GLOB kdlib_instances_files CONFIGURE_DEPENDS "${kdlib_instances_sources}/instances_*.cpp")
  if(kdlib_instances_files)
    add_library(kdlib_functions STATIC EXCLUDE_FROM_ALL ${kdlib_functions_files})
    add_library(kdlib::functions ALIAS kdlib_functions)
    target_link_libraries(kdlib_functions PUBLIC kdlib::cpu)
    # Linking them is enough: the headers then declare what the libraries hold.
    target_compile_definitions(kdlib_functions PUBLIC $<$<COMPILE_LANGUAGE:CXX,CUDA>:KDLIB_USES_FUNCTIONS=1>)
    add_library(kdlib_instances STATIC EXCLUDE_FROM_ALL ${kdlib_instances_files})
    add_library(kdlib::instances ALIAS kdlib_instances)
    target_link_libraries(kdlib_instances PUBLIC kdlib_functions)
    target_compile_definitions(kdlib_instances INTERFACE $<$<COMPILE_LANGUAGE:CXX>:KDLIB_USES_INSTANCES=1>)
  endif()
endif()
