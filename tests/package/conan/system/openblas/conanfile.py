# SPDX-License-Identifier: Apache-2.0
"""OpenBLAS of the system as a Conan package, so that kdlib's recipe can be tested without a Conan remote."""

from conan import ConanFile


class OpenBlas(ConanFile):
    name = "openblas"
    version = "0.3.21"
    settings = "os", "arch", "compiler", "build_type"

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.includedirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.bindirs = []
        self.cpp_info.set_property("cmake_file_name", "OpenBLAS")
        self.cpp_info.set_property("cmake_target_name", "OpenBLAS::OpenBLAS")
        self.cpp_info.system_libs = ["openblas"]
