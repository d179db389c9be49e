# SPDX-License-Identifier: Apache-2.0
"""HDF5 of the system as a Conan package, so that kdlib's recipe can be tested without a Conan remote."""

from conan import ConanFile


class Hdf5(ConanFile):
    name = "hdf5"
    version = "1.10.8"
    settings = "os", "arch", "compiler", "build_type"

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.set_property("cmake_target_name", "hdf5::hdf5")
        self.cpp_info.includedirs = ["/usr/include/hdf5/serial"]
        self.cpp_info.libdirs = []
        self.cpp_info.bindirs = []
        self.cpp_info.system_libs = ["hdf5_serial"]
