# SPDX-License-Identifier: Apache-2.0
"""Conan 2 recipe of a header-only package: one package for every setting; options only change what is linked."""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load


class KdlibConan(ConanFile):
    name = "kdlib"
    license = "Apache-2.0"
    description = "Header-only C++20 library that distils language models"
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    # with_openblas: matrix products by OpenBLAS, else by Eigen. with_onednn: products of bf16 by oneDNN on CPUs with
    # BF16 instructions; one source is compiled in the consumer's project. with_cuda: the target kdlib::cuda, compiled
    # by nvcc in the consumer's project, which finds the CUDA toolkit itself (cuBLASLt of it). with_pcre2: expressions
    # of adapters that are not regular. with_remote: the target kdlib::remote, teachers on other machines by libcurl.
    # with_hdf5: the target kdlib::hdf5, teachers' caches in HDF5. with_mpi: the target kdlib::mpi, compiled against
    # the MPI that the consumer's project finds, which is its cluster's. with_arrow: the target kdlib::arrow, rows of
    # Parquet files by Apache Arrow, compiled in the consumer's project. with_nccl: the target kdlib::nccl, ranks with
    # a GPU each, compiled against the NCCL and CUDA toolkit that the consumer's project finds. with_serve: the target
    # kdlib::serve, the service behind the program `serve`, compiled in the consumer's project against Boost.Beast and
    # yaml-cpp.
    options = {"with_openblas": [True, False], "with_onednn": [True, False], "with_cuda": [True, False],
               "with_pcre2": [True, False], "with_remote": [True, False], "with_hdf5": [True, False],
               "with_mpi": [True, False], "with_arrow": [True, False], "with_nccl": [True, False],
               "with_serve": [True, False]}
    default_options = {"with_openblas": False, "with_onednn": False, "with_cuda": False, "with_pcre2": False,
                       "with_remote": False, "with_hdf5": False, "with_mpi": False,
                       "with_arrow": False, "with_nccl": False, "with_serve": False}
    exports_sources = "include/*", "src/*", "cmake/*", "LICENSE"
    no_copy_source = True
    test_package_folder = "tests/package/conan/test_package"

    def set_version(self):
        header = load(self, os.path.join(self.recipe_folder, "include", "kdlib", "version.hpp"))
        self.version = re.search(r'KDLIB_VERSION_STRING "([^"]+)"', header).group(1)

    def requirements(self):
        self.requires("eigen/[>=3.4 <6]", transitive_headers=True)
        self.requires("rapidjson/[>=1.1]", transitive_headers=True)
        if self.options.with_openblas:
            self.requires("openblas/[>=0.3.20]", transitive_headers=True, transitive_libs=True)
        if self.options.with_onednn:
            self.requires("onednn/[>=2.6 <4]", transitive_headers=True, transitive_libs=True)
        if self.options.with_pcre2:
            self.requires("pcre2/[>=10.40]", transitive_headers=True, transitive_libs=True)
        if self.options.with_remote:
            self.requires("libcurl/[>=7.68 <9]", transitive_headers=True, transitive_libs=True)
        if self.options.with_hdf5:
            self.requires("hdf5/[>=1.10 <2]", transitive_headers=True, transitive_libs=True)
        if self.options.with_arrow:
            self.requires("arrow/[>=21]", transitive_headers=True, transitive_libs=True, options={"parquet": True})
        if self.options.with_serve:
            self.requires("boost/[>=1.74]", transitive_headers=True)
            self.requires("yaml-cpp/[>=0.7]", transitive_headers=True, transitive_libs=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        self.info.clear()

    @property
    def _modules(self):
        modules = ["kdlibInstances.cmake"]
        if self.options.with_onednn:
            modules.append("kdlibOneDnn.cmake")
        if self.options.with_cuda:
            modules.append("kdlibCuda.cmake")
        if self.options.with_mpi:
            modules.append("kdlibMpi.cmake")
        if self.options.with_arrow:
            modules.append("kdlibArrow.cmake")
        if self.options.with_nccl:
            modules.append("kdlibNccl.cmake")
        if self.options.with_serve:
            modules.append("kdlibServe.cmake")
        return modules

    def package(self):
        share = os.path.join(self.package_folder, "share")
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        include = os.path.join(self.package_folder, "include")
        for pattern in ("*.hpp", "*.cuh"):
            copy(self, pattern, os.path.join(self.source_folder, "include"), include)
        copy(self, "*", os.path.join(self.source_folder, "src"), os.path.join(share, "kdlib", "src"))
        # The sources lie where the modules look for them: beside the folder above their own.
        modules = os.path.join(share, "kdlib", "cmake")
        for module in ("kdlibInstances.cmake", "kdlibOneDnn.cmake", "kdlibCuda.cmake", "kdlibCudaEmulated.cmake",
                       "kdlibMpi.cmake", "kdlibArrow.cmake", "FindArrowParquet.cmake", "kdlibNccl.cmake",
                       "FindNCCL.cmake", "kdlibServe.cmake", "FindBoostBeast.cmake", "FindCUDNN.cmake"):
            copy(self, module, os.path.join(self.source_folder, "cmake"), modules)

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "kdlib")
        # kdlib::instances, kdlib::functions and kdlib::cuda are compiled in the consumer's project, with its flags.
        folder = os.path.join(self.package_folder, "share", "kdlib", "cmake")
        self.cpp_info.set_property("cmake_build_modules", [os.path.join(folder, module) for module in self._modules])
        core = self.cpp_info.components["kdlib"]
        core.set_property("cmake_target_name", "kdlib::kdlib")
        core.requires = ["rapidjson::rapidjson"]
        core.system_libs = ["pthread"]
        if self.options.with_pcre2:
            core.requires.append("pcre2::pcre2-8")
            core.defines = ["KDLIB_WITH_PCRE2=1", "PCRE2_CODE_UNIT_WIDTH=8"]
        cpu = self.cpp_info.components["cpu"]
        cpu.set_property("cmake_target_name", "kdlib::cpu")
        cpu.requires = ["kdlib", "eigen::eigen"]
        if self.options.with_openblas:
            cpu.requires.append("openblas::openblas")
            cpu.defines = ["KDLIB_WITH_CBLAS=1", "KDLIB_WITH_OPENBLAS=1"]
        if self.options.with_onednn:
            cpu.requires.append("onednn::onednn")
        if self.options.with_remote:
            remote = self.cpp_info.components["remote"]
            remote.set_property("cmake_target_name", "kdlib::remote")
            remote.requires = ["kdlib", "libcurl::libcurl"]
            remote.defines = ["KDLIB_WITH_REMOTE=1"]
        if self.options.with_hdf5:
            hdf5 = self.cpp_info.components["hdf5"]
            hdf5.set_property("cmake_target_name", "kdlib::hdf5")
            hdf5.requires = ["kdlib", "hdf5::hdf5"]
            hdf5.defines = ["KDLIB_WITH_HDF5=1"]
        if self.options.with_arrow:
            # What kdlib::arrow is linked with; the target itself is compiled by kdlibArrow.cmake.
            arrow = self.cpp_info.components["arrow_libraries"]
            arrow.set_property("cmake_target_name", "kdlib::arrow_libraries")
            arrow.requires = ["kdlib", "arrow::libarrow", "arrow::libparquet"]
        if self.options.with_serve:
            # What kdlib::serve is linked with; the target itself is compiled by kdlibServe.cmake.
            serve = self.cpp_info.components["serve_libraries"]
            serve.set_property("cmake_target_name", "kdlib::serve_libraries")
            serve.requires = ["kdlib", "boost::headers", "yaml-cpp::yaml-cpp"]
