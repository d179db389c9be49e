// SPDX-License-Identifier: Apache-2.0
// Compiled by tests/checks with -ffast-math, which config.hpp refuses.
#include "kdlib/config.hpp"
