# SPDX-License-Identifier: Apache-2.0
"""libcurl of the system as a Conan package, so that kdlib's recipe can be tested without a Conan remote."""

from conan import ConanFile


class Libcurl(ConanFile):
    name = "libcurl"
    version = "7.88.1"
    settings = "os", "arch", "compiler", "build_type"

    def package_id(self):
        self.info.clear()

    def package_info(self):
        component = self.cpp_info.components["curl"]
        component.set_property("cmake_target_name", "CURL::libcurl")
        component.includedirs = []
        component.libdirs = []
        component.bindirs = []
        component.system_libs = ["curl"]
