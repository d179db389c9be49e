# SPDX-License-Identifier: Apache-2.0
# Install rules: headers, sources that consumers compile, a relocatable and architecture-independent package.
include(CMakePackageConfigHelpers)
set(KDLIB_INSTALL_CMAKEDIR "${CMAKE_INSTALL_DATADIR}/cmake/kdlib")
set(KDLIB_INSTALL_SHAREDIR "${CMAKE_INSTALL_DATADIR}/kdlib")

install(TARGETS kdlib EXPORT kdlibTargets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT kdlibTargets NAMESPACE kdlib:: DESTINATION "${KDLIB_INSTALL_CMAKEDIR}")
install(TARGETS kdlib_cpu EXPORT kdlibCpuTargets)
install(EXPORT kdlibCpuTargets NAMESPACE kdlib:: DESTINATION "${KDLIB_INSTALL_CMAKEDIR}")

configure_package_config_file(cmake/kdlibConfig.cmake.in "${PROJECT_BINARY_DIR}/kdlibConfig.cmake"
  INSTALL_DESTINATION "${KDLIB_INSTALL_CMAKEDIR}" PATH_VARS KDLIB_INSTALL_SHAREDIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/kdlibConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/kdlibConfig.cmake" "${PROJECT_BINARY_DIR}/kdlibConfigVersion.cmake"
  cmake/FindArrowParquet.cmake cmake/FindBoostBeast.cmake cmake/FindCBLAS.cmake cmake/FindCUDNN.cmake
  cmake/FindHDF5C.cmake cmake/FindNCCL.cmake cmake/FindONEDNN.cmake cmake/FindPCRE2.cmake
  cmake/FindRapidJSONHeaders.cmake cmake/kdlibArrow.cmake cmake/kdlibCuda.cmake cmake/kdlibCudaEmulated.cmake
  cmake/kdlibInstances.cmake cmake/kdlibMpi.cmake cmake/kdlibNccl.cmake cmake/kdlibOneDnn.cmake cmake/kdlibServe.cmake
  DESTINATION "${KDLIB_INSTALL_CMAKEDIR}")
if(IS_DIRECTORY "${PROJECT_SOURCE_DIR}/src")
  install(DIRECTORY src/ DESTINATION "${KDLIB_INSTALL_SHAREDIR}/src")
endif()
# Component benchmarks: what downstream projects time their own losses with.
install(FILES benchmarks/loss_benchmarks.hpp benchmarks/loss_data.hpp benchmarks/bench_losses.cpp
  DESTINATION "${KDLIB_INSTALL_SHAREDIR}/benchmarks")
# The programs' sources, to begin one's own from: "${kdlib_EXAMPLES_DIR}/on_policy.cpp".
file(GLOB kdlib_installed_examples "${PROJECT_SOURCE_DIR}/examples/*.cpp")
install(FILES ${kdlib_installed_examples} DESTINATION "${KDLIB_INSTALL_SHAREDIR}/examples")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/kdlib")

set(KDLIB_PC_REQUIRES "")
set(KDLIB_PC_DEFINES "")
if(KDLIB_BLAS_VENDOR STREQUAL "OpenBLAS")
  set(KDLIB_PC_REQUIRES ", openblas")
  set(KDLIB_PC_DEFINES " -DKDLIB_WITH_CBLAS=1 -DKDLIB_WITH_OPENBLAS=1")
endif()
if(KDLIB_WITH_PCRE2)
  string(APPEND KDLIB_PC_REQUIRES ", libpcre2-8")
  string(APPEND KDLIB_PC_DEFINES " -DKDLIB_WITH_PCRE2=1 -DPCRE2_CODE_UNIT_WIDTH=8")
endif()
configure_file(cmake/kdlib.pc.in "${PROJECT_BINARY_DIR}/kdlib.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/kdlib.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
