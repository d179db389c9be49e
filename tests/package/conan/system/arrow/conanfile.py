# SPDX-License-Identifier: Apache-2.0
"""Apache Arrow of the wheel pyarrow as a Conan package, so that kdlib's recipe can be tested without a Conan remote."""

import os
import subprocess

from conan import ConanFile

ASK = """import os, pyarrow
print(pyarrow.__version__, pyarrow.get_include(), pyarrow.get_library_dirs()[0], pyarrow.lib.cpp_build_info.so_version,
      sep="|")"""


def wheel():
    """Version, headers and library files of the wheel of the Python that KDLIB_ARROW_PYTHON names."""
    said = subprocess.run([os.environ["KDLIB_ARROW_PYTHON"], "-c", ASK], capture_output=True, text=True, check=True)
    version, include, folder, so = said.stdout.strip().split("|")
    return version, include, {name: os.path.join(folder, f"lib{name}.so.{so}") for name in ("arrow", "parquet")}


class Arrow(ConanFile):
    name = "arrow"
    settings = "os", "arch", "compiler", "build_type"
    options = {"parquet": [True, False]}
    default_options = {"parquet": False}

    def set_version(self):
        self.version = wheel()[0]

    def package_id(self):
        self.info.clear()

    def package_info(self):
        _, include, files = wheel()
        self.cpp_info.set_property("cmake_file_name", "Arrow")
        for name, target in (("arrow", "Arrow::arrow_shared"), ("parquet", "Parquet::parquet_shared")):
            component = self.cpp_info.components["lib" + name]
            component.set_property("cmake_target_name", target)
            component.includedirs = [include]
            component.libdirs = component.bindirs = []
            component.system_libs = [files[name]]  # the wheel has no libarrow.so without a number
            component.sharedlinkflags = component.exelinkflags = ["-Wl,-rpath," + os.path.dirname(files[name])]
        self.cpp_info.components["libparquet"].requires = ["libarrow"]
