# SPDX-License-Identifier: Apache-2.0
"""yaml-cpp of the system as a Conan package, so that kdlib's recipe can be tested without a Conan remote."""

from conan import ConanFile


class YamlCpp(ConanFile):
    name = "yaml-cpp"
    version = "0.7.0"
    settings = "os", "arch", "compiler", "build_type"

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "yaml-cpp")
        self.cpp_info.set_property("cmake_target_name", "yaml-cpp::yaml-cpp")
        self.cpp_info.includedirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.bindirs = []
        self.cpp_info.system_libs = ["yaml-cpp"]
