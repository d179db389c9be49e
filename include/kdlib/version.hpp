// SPDX-License-Identifier: Apache-2.0
// The version of kdlib. CMake, Conan and the documents read the version from this file alone.
#ifndef KDLIB_VERSION_HPP
#define KDLIB_VERSION_HPP

#define KDLIB_VERSION_MAJOR 0
#define KDLIB_VERSION_MINOR 1
#define KDLIB_VERSION_PATCH 0
#define KDLIB_VERSION_STRING "0.1.0"

#endif
