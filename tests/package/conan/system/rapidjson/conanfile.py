# SPDX-License-Identifier: Apache-2.0
"""RapidJSON of the system (/usr/include) as a Conan package, so that kdlib's recipe can be tested without a remote."""

from conan import ConanFile


class RapidJson(ConanFile):
    name = "rapidjson"
    version = "1.1.0"
    settings = "os", "arch", "compiler", "build_type"

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.includedirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.bindirs = []
        self.cpp_info.set_property("cmake_file_name", "RapidJSON")
        self.cpp_info.set_property("cmake_target_name", "rapidjson")
