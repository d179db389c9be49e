# SPDX-License-Identifier: Apache-2.0
"""PCRE2 of the system as a Conan package, so that kdlib's recipe can be tested without a Conan remote."""

from conan import ConanFile


class Pcre2(ConanFile):
    name = "pcre2"
    version = "10.42"
    settings = "os", "arch", "compiler", "build_type"

    def package_id(self):
        self.info.clear()

    def package_info(self):
        component = self.cpp_info.components["pcre2-8"]
        component.set_property("cmake_target_name", "PCRE2::8BIT")
        component.includedirs = []
        component.libdirs = []
        component.bindirs = []
        component.system_libs = ["pcre2-8"]
