# SPDX-License-Identifier: Apache-2.0
# Finds Apache Arrow with its Parquet library, 21 or later. Makes the target ArrowParquet::ArrowParquet: of Arrow's own
# package (also as Conan and vcpkg make it, shared or static), else of the libraries inside the wheel pyarrow of the
# Python KDLIB_ARROW_PYTHON.
set(ArrowParquet_VERSION "")
set(ARROW_PARQUET_LIBRARY "")
set(arrow_include "")
find_package(Arrow QUIET CONFIG)
find_package(Parquet QUIET CONFIG)
foreach(kind shared static)
  if(NOT ARROW_PARQUET_LIBRARY AND TARGET Arrow::arrow_${kind} AND TARGET Parquet::parquet_${kind})
    set(ArrowParquet_VERSION "${Arrow_VERSION}")
    set(ARROW_PARQUET_LIBRARY Parquet::parquet_${kind} Arrow::arrow_${kind})
  endif()
endforeach()
if(NOT ARROW_PARQUET_LIBRARY AND KDLIB_ARROW_PYTHON)
  execute_process(COMMAND "${KDLIB_ARROW_PYTHON}" -c [[
import os, pyarrow
so = pyarrow.lib.cpp_build_info.so_version
files = [os.path.join(d, f"lib{n}.so.{so}") for d in pyarrow.get_library_dirs()[:1] for n in ("parquet", "arrow")]
if all(map(os.path.isfile, files)): print(pyarrow.__version__, pyarrow.get_include(), *files, sep=";", end="")
]] OUTPUT_VARIABLE arrow_wheel ERROR_QUIET RESULT_VARIABLE arrow_status)
  if(arrow_status EQUAL 0 AND arrow_wheel)
    list(POP_FRONT arrow_wheel ArrowParquet_VERSION arrow_include)
    set(ARROW_PARQUET_LIBRARY ${arrow_wheel})
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ArrowParquet REQUIRED_VARS ARROW_PARQUET_LIBRARY
  VERSION_VAR ArrowParquet_VERSION)
if(ArrowParquet_FOUND AND NOT TARGET ArrowParquet::ArrowParquet)
  add_library(ArrowParquet::ArrowParquet INTERFACE IMPORTED)
  if(NOT arrow_include)
    target_link_libraries(ArrowParquet::ArrowParquet INTERFACE ${ARROW_PARQUET_LIBRARY})
  else()
    foreach(file IN LISTS ARROW_PARQUET_LIBRARY)
      get_filename_component(name "${file}" NAME_WE)
      add_library(ArrowParquet::${name} SHARED IMPORTED)
      set_target_properties(ArrowParquet::${name} PROPERTIES
        IMPORTED_LOCATION "${file}" INTERFACE_INCLUDE_DIRECTORIES "${arrow_include}")
      target_link_libraries(ArrowParquet::ArrowParquet INTERFACE ArrowParquet::${name})
    endforeach()
  endif()
endif()
