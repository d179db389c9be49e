# SPDX-License-Identifier: Apache-2.0
# Finds HDF5's C library, 1.10 or later, the serial one (hdf5.h, libhdf5). Makes the target HDF5C::HDF5C. CMake's own
# FindHDF5 runs a compiler wrapper, which packages of the library alone do not have.
find_path(HDF5C_INCLUDE_DIR NAMES hdf5.h PATH_SUFFIXES hdf5/serial)
find_library(HDF5C_LIBRARY NAMES hdf5_serial hdf5 PATH_SUFFIXES hdf5/serial)
set(HDF5C_VERSION "")
if(HDF5C_INCLUDE_DIR AND EXISTS "${HDF5C_INCLUDE_DIR}/H5public.h")
  file(STRINGS "${HDF5C_INCLUDE_DIR}/H5public.h" hdf5c_lines REGEX "#define H5_VERS_(MAJOR|MINOR|RELEASE)[ \t]+[0-9]+")
  string(REGEX REPLACE "[^0-9]*5_VERS_[A-Z]+[ \t]+([0-9]+)[^;]*;?" "\\1." HDF5C_VERSION "${hdf5c_lines}")
  string(REGEX REPLACE "\\.$" "" HDF5C_VERSION "${HDF5C_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(HDF5C REQUIRED_VARS HDF5C_LIBRARY HDF5C_INCLUDE_DIR VERSION_VAR HDF5C_VERSION)
if(HDF5C_FOUND AND NOT TARGET HDF5C::HDF5C)
  add_library(HDF5C::HDF5C UNKNOWN IMPORTED)
  set_target_properties(HDF5C::HDF5C PROPERTIES
    IMPORTED_LOCATION "${HDF5C_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${HDF5C_INCLUDE_DIR}")
endif()
mark_as_advanced(HDF5C_INCLUDE_DIR HDF5C_LIBRARY)
