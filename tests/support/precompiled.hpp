// SPDX-License-Identifier: Apache-2.0
// Precompiled for the tests of everything that runs a model.
#ifndef KDLIB_TESTS_SUPPORT_PRECOMPILED_HPP
#define KDLIB_TESTS_SUPPORT_PRECOMPILED_HPP

#include "kdlib/kdlib.hpp"

#include "kdlib/backend/cpu.hpp"
#include "support/catch.hpp"

#if defined(KDLIB_USES_INSTANCES)
#include "support/instances.hpp"
#endif

#endif
