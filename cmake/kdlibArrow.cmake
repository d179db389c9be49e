# SPDX-License-Identifier: Apache-2.0
# kdlib::arrow: rows of Parquet files (kdlib/arrow.hpp), compiled against the Apache Arrow of the project that uses it.
# Used by kdlib's own tree and by the installed package; ArrowParquet::ArrowParquet is there already where that package
# or tree has looked for it.
if(NOT TARGET kdlib::arrow)
  if(KDLIB_SHARE_DIR)
    set(kdlib_arrow_source "${KDLIB_SHARE_DIR}/src/arrow/arrow.cpp")
  else()
    set(kdlib_arrow_source "${CMAKE_CURRENT_LIST_DIR}/../src/arrow/arrow.cpp")
  endif()
  if(NOT TARGET ArrowParquet::ArrowParquet)
    list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
    find_package(ArrowParquet 21 REQUIRED MODULE)
    list(POP_FRONT CMAKE_MODULE_PATH)
  endif()
  add_library(kdlib_arrow STATIC EXCLUDE_FROM_ALL "${kdlib_arrow_source}")
  add_library(kdlib::arrow ALIAS kdlib_arrow)
  target_link_libraries(kdlib_arrow PUBLIC kdlib::kdlib PRIVATE ArrowParquet::ArrowParquet)
  target_compile_definitions(kdlib_arrow INTERFACE KDLIB_WITH_ARROW=1)
endif()
