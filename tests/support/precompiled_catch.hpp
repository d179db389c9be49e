// SPDX-License-Identifier: Apache-2.0
// Precompiled for the tests of files and text.
#ifndef KDLIB_TESTS_SUPPORT_PRECOMPILED_CATCH_HPP
#define KDLIB_TESTS_SUPPORT_PRECOMPILED_CATCH_HPP

#include "kdlib/io/json.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

#endif
