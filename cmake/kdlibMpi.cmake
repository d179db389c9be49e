# SPDX-License-Identifier: Apache-2.0
# kdlib::mpi: ranks as the processes of an MPI job (kdlib/mpi.hpp), compiled against the MPI of the project that uses
# it, which is its cluster's. Used by kdlib's own tree and by the installed package.
if(NOT TARGET kdlib::mpi)
  if(KDLIB_SHARE_DIR)
    set(kdlib_mpi_source "${KDLIB_SHARE_DIR}/src/mpi/mpi.cpp")
  else()
    set(kdlib_mpi_source "${CMAKE_CURRENT_LIST_DIR}/../src/mpi/mpi.cpp")
  endif()
  if(NOT TARGET MPI::MPI_CXX)
    find_package(MPI REQUIRED COMPONENTS CXX)
  endif()
  add_library(kdlib_mpi STATIC EXCLUDE_FROM_ALL "${kdlib_mpi_source}")
  add_library(kdlib::mpi ALIAS kdlib_mpi)
  target_link_libraries(kdlib_mpi PUBLIC kdlib::kdlib PRIVATE MPI::MPI_CXX)
  target_compile_definitions(kdlib_mpi INTERFACE KDLIB_WITH_MPI=1 PRIVATE OMPI_SKIP_MPICXX=1 MPICH_SKIP_MPICXX=1)
endif()
