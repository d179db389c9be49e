# SPDX-License-Identifier: Apache-2.0
# The program `serve` (docs/service.md): kdlib_service holds kdlib/tools/service/ and the units that read
# Boost.Asio and Boost.Beast. Without Boost's headers nothing of it is built, and the configuration says so.
set(KDLIB_SERVE auto CACHE STRING "The program serve: auto (where Boost's headers are found), ON or OFF")
set_property(CACHE KDLIB_SERVE PROPERTY STRINGS auto ON OFF)
kdlib_check_auto(KDLIB_SERVE)
if(NOT KDLIB_SERVE)
  return()
endif()
set(kdlib_serve_missing "")
find_package(BoostBeast 1.74 QUIET MODULE)
if(NOT BoostBeast_FOUND AND BoostBeast_VERSION)
  set(kdlib_serve_missing "Boost 1.74 or later is needed, found ${BoostBeast_VERSION}")
elseif(NOT BoostBeast_FOUND)
  set(kdlib_serve_missing "Boost's headers are not found (Debian and Ubuntu: apt-get install libboost-dev)")
endif()
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(kdlib_serve_missing "it needs Linux (openat2, /proc)")
endif()
if(kdlib_serve_missing)
  if(KDLIB_SERVE STREQUAL "ON")
    message(FATAL_ERROR "kdlib: KDLIB_SERVE=ON is asked for: ${kdlib_serve_missing}")
  endif()
  message(STATUS "kdlib: the program serve is not built: ${kdlib_serve_missing}")
  return()
endif()

add_library(kdlib_service STATIC EXCLUDE_FROM_ALL
  "${PROJECT_SOURCE_DIR}/src/tools/service.cpp" "${PROJECT_SOURCE_DIR}/src/tools/service_asio.cpp"
  "${PROJECT_SOURCE_DIR}/src/tools/service_http.cpp" "${PROJECT_SOURCE_DIR}/src/tools/service_socket.cpp")
# These wait for sockets: little is won by optimising Boost's templates, which takes most of their compile time.
set_source_files_properties("${PROJECT_SOURCE_DIR}/src/tools/service_asio.cpp"
  "${PROJECT_SOURCE_DIR}/src/tools/service_http.cpp" "${PROJECT_SOURCE_DIR}/src/tools/service_socket.cpp"
  PROPERTIES COMPILE_OPTIONS -O1
  COMPILE_DEFINITIONS "BOOST_ASIO_SEPARATE_COMPILATION;BOOST_BEAST_SEPARATE_COMPILATION")
add_library(kdlib::serve ALIAS kdlib_service)
target_link_libraries(kdlib_service PUBLIC kdlib::kdlib kdlib_program_libraries
  PRIVATE kdlib_project_options BoostBeast::BoostBeast)
if(TARGET kdlib_tool_functions)
  target_link_libraries(kdlib_service PUBLIC kdlib_tool_functions)
endif()

# The page as arrays of bytes, so that the program needs no folder.
file(GLOB kdlib_page CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/web/*.html" "${PROJECT_SOURCE_DIR}/web/*.js"
  "${PROJECT_SOURCE_DIR}/web/*.css" "${PROJECT_SOURCE_DIR}/web/*.svg")
set(kdlib_page_header "${PROJECT_BINARY_DIR}/service/service_page.hpp")
add_custom_command(OUTPUT "${kdlib_page_header}" DEPENDS ${kdlib_page} "${PROJECT_SOURCE_DIR}/cmake/embed_page.cmake"
  COMMAND "${CMAKE_COMMAND}" "-DFILES=${kdlib_page}" "-DOUT=${kdlib_page_header}"
    -P "${PROJECT_SOURCE_DIR}/cmake/embed_page.cmake" VERBATIM)
add_executable(serve "${PROJECT_SOURCE_DIR}/examples/serve/serve.cpp"
  "${PROJECT_SOURCE_DIR}/examples/serve/serve_teacher.cpp" "${kdlib_page_header}")
target_include_directories(serve PRIVATE "${PROJECT_BINARY_DIR}/service")
target_link_libraries(serve PRIVATE kdlib_service kdlib::cpu kdlib_project_options)
if(KDLIB_INSTANCES)
  target_link_libraries(serve PRIVATE kdlib::instances)
endif()
set_property(GLOBAL APPEND PROPERTY KDLIB_PROGRAMS serve)
if(KDLIB_INSTALL)
  install(TARGETS serve RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT serve EXCLUDE_FROM_ALL)
endif()
