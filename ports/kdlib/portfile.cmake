# SPDX-License-Identifier: Apache-2.0
set(VCPKG_BUILD_TYPE release) # header-only

vcpkg_from_github(
    OUT_SOURCE_PATH SOURCE_PATH
    REPO kdlib/kdlib
    REF "v${VERSION}"
    SHA512 0
    HEAD_REF main
)

vcpkg_check_features(OUT_FEATURE_OPTIONS FEATURE_OPTIONS FEATURES blas KDLIB_PORT_BLAS)
if(KDLIB_PORT_BLAS)
    set(KDLIB_BLAS OpenBLAS)
else()
    set(KDLIB_BLAS none)
endif()

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DKDLIB_BLAS=${KDLIB_BLAS}
        -DKDLIB_BUILD_TESTS=OFF
        -DKDLIB_BUILD_EXAMPLES=OFF
        -DKDLIB_BUILD_BENCHMARKS=OFF
        -DKDLIB_INSTALL=ON
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME kdlib CONFIG_PATH share/cmake/kdlib)
vcpkg_fixup_pkgconfig()

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
