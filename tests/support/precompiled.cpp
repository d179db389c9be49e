// SPDX-License-Identifier: Apache-2.0
// The one source of the targets that own precompiled headers (precompiled.hpp, precompiled_catch.hpp): CMake wants one.
