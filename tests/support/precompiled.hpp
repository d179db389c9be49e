// SPDX-License-Identifier: Apache-2.0
// Precompiled for the tests of everything that runs a model.
#ifndef KDLIB_TESTS_SUPPORT_PRECOMPILED_HPP
#define KDLIB_TESTS_SUPPORT_PRECOMPILED_HPP

#include "kdlib/kdlib.hpp"

#include "support/catch.hpp"
#include "support/instances.hpp"

#endif
