# SPDX-License-Identifier: Apache-2.0
set(VCPKG_BUILD_TYPE release) # header-only

# KDLIB_SOURCE_TREE in the environment: the port installs that folder. A release names its tag and the archive's SHA512
# here; until there is one, the port says so.
if(DEFINED ENV{KDLIB_SOURCE_TREE})
    get_filename_component(SOURCE_PATH "$ENV{KDLIB_SOURCE_TREE}" ABSOLUTE)
    if(NOT EXISTS "${SOURCE_PATH}/include/kdlib/version.hpp")
        message(FATAL_ERROR "kdlib: KDLIB_SOURCE_TREE is ${SOURCE_PATH}, which holds no include/kdlib/version.hpp")
    endif()
else()
    message(FATAL_ERROR "kdlib: version ${VERSION} has no release yet: its tag and the SHA512 of its archive are "
        "missing in this port. Set KDLIB_SOURCE_TREE to a checkout of kdlib to install that, with "
        "VCPKG_KEEP_ENV_VARS=KDLIB_SOURCE_TREE.")
endif()

vcpkg_check_features(OUT_FEATURE_OPTIONS FEATURE_OPTIONS FEATURES
    blas KDLIB_PORT_BLAS onednn KDLIB_PORT_ONEDNN pcre2 KDLIB_PORT_PCRE2 remote KDLIB_PORT_REMOTE hdf5 KDLIB_PORT_HDF5)
if(KDLIB_PORT_BLAS)
    set(KDLIB_BLAS OpenBLAS)
else()
    set(KDLIB_BLAS none)
endif()
if(KDLIB_PORT_ONEDNN)
    set(KDLIB_ONEDNN ON)
else()
    set(KDLIB_ONEDNN OFF)
endif()
if(KDLIB_PORT_PCRE2)
    set(KDLIB_PCRE2 ON)
else()
    set(KDLIB_PCRE2 OFF)
endif()
if(KDLIB_PORT_REMOTE)
    set(KDLIB_REMOTE ON)
else()
    set(KDLIB_REMOTE OFF)
endif()
if(KDLIB_PORT_HDF5)
    set(KDLIB_HDF5 ON)
else()
    set(KDLIB_HDF5 OFF)
endif()

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DKDLIB_BLAS=${KDLIB_BLAS}
        -DKDLIB_ONEDNN=${KDLIB_ONEDNN}
        -DKDLIB_PCRE2=${KDLIB_PCRE2}
        -DKDLIB_REMOTE=${KDLIB_REMOTE}
        -DKDLIB_HDF5=${KDLIB_HDF5}
        -DKDLIB_MPI=OFF
        -DKDLIB_ARROW=OFF
        -DKDLIB_BUILD_TESTS=OFF
        -DKDLIB_BUILD_EXAMPLES=OFF
        -DKDLIB_BUILD_BENCHMARKS=OFF
        -DKDLIB_INSTALL=ON
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME kdlib CONFIG_PATH share/cmake/kdlib)
file(MAKE_DIRECTORY "${CURRENT_PACKAGES_DIR}/lib") # kdlib.pc names a library (-pthread), so vcpkg wants it here
file(RENAME "${CURRENT_PACKAGES_DIR}/share/pkgconfig" "${CURRENT_PACKAGES_DIR}/lib/pkgconfig")
vcpkg_fixup_pkgconfig()

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
