# SPDX-License-Identifier: Apache-2.0
# Flags of the project's own targets (tests, examples, benchmarks). Consumers never see them.
add_library(kdlib_project_options INTERFACE)
target_compile_options(kdlib_project_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow>)
target_compile_definitions(kdlib_project_options INTERFACE KDLIB_ALLOW_UNOPTIMIZED=1)  # tests at -O0
if(KDLIB_WERROR)
  target_compile_options(kdlib_project_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(KDLIB_NATIVE)
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag(-march=native KDLIB_HAS_MARCH_NATIVE)
  if(KDLIB_HAS_MARCH_NATIVE)
    target_compile_options(kdlib_project_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
  endif()
endif()
if(KDLIB_SANITIZE)
  target_compile_options(kdlib_project_options INTERFACE
    -fsanitize=${KDLIB_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(kdlib_project_options INTERFACE -fsanitize=${KDLIB_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    target_compile_options(kdlib_project_options INTERFACE
      "-fsanitize-ignorelist=${PROJECT_SOURCE_DIR}/tests/sanitizer_ignorelist.txt")
  endif()
endif()

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  message(STATUS "kdlib: build type ${CMAKE_BUILD_TYPE}")
endif()

# Precompiled headers of tests: CMake's own prologue would make every header in them a system header, without warnings,
# and ccache needs the preprocessor to name them.
set(CMAKE_PCH_PROLOGUE "")
set(kdlib_precompiled_flags $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-fpch-preprocess>
  "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:Clang>>:SHELL:-Xclang -fno-pch-timestamp>")

# yaml-cpp reads the programs' config files; its target changed its name in 0.8.
add_library(kdlib_program_libraries INTERFACE)
find_package(yaml-cpp CONFIG QUIET)
if(TARGET yaml-cpp::yaml-cpp)
  target_link_libraries(kdlib_program_libraries INTERFACE yaml-cpp::yaml-cpp)
elseif(TARGET yaml-cpp)
  target_link_libraries(kdlib_program_libraries INTERFACE yaml-cpp)
else()
  message(FATAL_ERROR "kdlib: the programs and their tests need yaml-cpp "
    "(Debian and Ubuntu: apt-get install libyaml-cpp-dev); "
    "the library itself does not (-DKDLIB_BUILD_TESTS=OFF -DKDLIB_BUILD_EXAMPLES=OFF)")
endif()

# Of everything that reads recipe/session.hpp: teachers on other machines, where libcurl is.
add_library(kdlib_session_libraries INTERFACE)
if(TARGET kdlib_remote)
  target_link_libraries(kdlib_session_libraries INTERFACE kdlib_remote)
endif()

# The main job's own prompts; programs look at $KDLIB_DATA_DIR first.
add_library(kdlib_bundled_data INTERFACE)
target_compile_definitions(kdlib_bundled_data INTERFACE
  "KDLIB_BUNDLED_DATA_DIR=\"${PROJECT_SOURCE_DIR}/examples/data\"")

# The instances are compiled like the project's own programs here; a consumer compiles them with its own flags.
foreach(target kdlib_functions kdlib_instances)
  if(TARGET ${target})
    target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:kdlib_project_options>)
  endif()
endforeach()

# kdlib_tool_functions: the same for kdlib/tools/, which no installed target offers.
if(TARGET kdlib_functions)
  add_library(kdlib_tool_functions STATIC EXCLUDE_FROM_ALL "${PROJECT_SOURCE_DIR}/src/tools/functions.cpp")
  target_link_libraries(kdlib_tool_functions PUBLIC kdlib_functions kdlib_program_libraries
    PRIVATE kdlib_project_options kdlib_bundled_data)
  target_compile_definitions(kdlib_tool_functions PUBLIC KDLIB_USES_TOOL_FUNCTIONS=1)
endif()
