# SPDX-License-Identifier: Apache-2.0
"""Boost's headers of the system as a Conan package, so that kdlib's recipe can be tested without a Conan remote."""

import re

from conan import ConanFile


class Boost(ConanFile):
    name = "boost"
    settings = "os", "arch", "compiler", "build_type"

    def set_version(self):
        with open("/usr/include/boost/version.hpp", encoding="utf-8") as header:
            self.version = re.search(r'BOOST_LIB_VERSION "([0-9_]+)"', header.read()).group(1).replace("_", ".")

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "Boost")
        component = self.cpp_info.components["headers"]
        component.set_property("cmake_target_name", "Boost::headers")
        component.includedirs = []
        component.libdirs = []
        component.bindirs = []
