# SPDX-License-Identifier: Apache-2.0
"""A program that uses the package as Conan made it, built and run."""

import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, cmake_layout


ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../../.."))


class TestPackage(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps", "CMakeToolchain"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        if can_run(self):
            programs = [os.path.join(self.cpp.build.bindir, name) for name in ("step", "service")]
            there = [program for program in programs if os.path.exists(program)]
            if there:
                self.run(there[0], env="conanrun")
            else:  # of a package with Arrow
                file = os.path.join(ROOT, "tests/reference/parquet/rows.parquet")
                self.run(f"{os.path.join(self.cpp.build.bindir, 'rows')} {file} 198 5099", env="conanrun")
