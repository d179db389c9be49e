# SPDX-License-Identifier: Apache-2.0
# kdlib::serve: the service behind the program `serve` (kdlib/tools/service/: runs, pages, a teacher that scores for
# others), compiled against the Boost.Beast and yaml-cpp of the project that uses it. Of the installed package alone: in
# kdlib's own tree kdlib_service is that library (service.cmake).
if(NOT TARGET kdlib::serve)
  include("${CMAKE_CURRENT_LIST_DIR}/kdlibInstances.cmake")
  if(NOT TARGET BoostBeast::BoostBeast)
    list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
    find_package(BoostBeast 1.74 REQUIRED MODULE)
    list(POP_FRONT CMAKE_MODULE_PATH)
  endif()
  find_package(yaml-cpp CONFIG REQUIRED)
  set(kdlib_serve_sources "${kdlib_instances_sources}/tools")
  set(kdlib_serve_boost "${kdlib_serve_sources}/service_asio.cpp" "${kdlib_serve_sources}/service_http.cpp"
    "${kdlib_serve_sources}/service_socket.cpp")
  add_library(kdlib_serve STATIC EXCLUDE_FROM_ALL "${kdlib_serve_sources}/functions.cpp"
    "${kdlib_serve_sources}/service.cpp" ${kdlib_serve_boost})
  add_library(kdlib::serve ALIAS kdlib_serve)
  set_source_files_properties(${kdlib_serve_boost} PROPERTIES
    COMPILE_DEFINITIONS "BOOST_ASIO_SEPARATE_COMPILATION;BOOST_BEAST_SEPARATE_COMPILATION")
  target_link_libraries(kdlib_serve PUBLIC kdlib::functions
    PRIVATE BoostBeast::BoostBeast $<IF:$<TARGET_EXISTS:yaml-cpp::yaml-cpp>,yaml-cpp::yaml-cpp,yaml-cpp>)
  target_compile_definitions(kdlib_serve PUBLIC KDLIB_USES_TOOL_FUNCTIONS=1)
endif()
