// SPDX-License-Identifier: Apache-2.0
// Kernels in double, which only tests need, compiled once (instances.cpp) like those of kdlib::instances.
#ifndef KDLIB_TESTS_SUPPORT_INSTANCES_HPP
#define KDLIB_TESTS_SUPPORT_INSTANCES_HPP

#include "kdlib/backend/cpu/instances.hpp"

KDLIB_INSTANCES_OF_KERNELS(extern, double)

#endif
