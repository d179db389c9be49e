# SPDX-License-Identifier: Apache-2.0
# kdlib::instances: the common explicit instantiations (kdlib/backend/instances.hpp) as one static library, compiled in
# the project that uses it, with that project's compiler and flags. Used by kdlib's own tree and by the installed package.
if(NOT TARGET kdlib::instances)
  if(KDLIB_SHARE_DIR)
    set(kdlib_instances_sources "${KDLIB_SHARE_DIR}/src")
  else()
    set(kdlib_instances_sources "${CMAKE_CURRENT_LIST_DIR}/../src")
  endif()
  file(GLOB kdlib_instances_files CONFIGURE_DEPENDS "${kdlib_instances_sources}/*.cpp")
  if(kdlib_instances_files)
    add_library(kdlib_instances STATIC EXCLUDE_FROM_ALL ${kdlib_instances_files})
    add_library(kdlib::instances ALIAS kdlib_instances)
    target_link_libraries(kdlib_instances PUBLIC kdlib::cpu)
    # Linking it is enough: kdlib/backend/cpu.hpp then declares what the library holds.
    target_compile_definitions(kdlib_instances INTERFACE $<$<COMPILE_LANGUAGE:CXX>:KDLIB_USES_INSTANCES=1>)
  endif()
endif()
