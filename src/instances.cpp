// SPDX-License-Identifier: Apache-2.0
// The definitions that kdlib/backend/instances.hpp declares. Compiled in the project that links kdlib::instances, with
// its flags.
#define KDLIB_DEFINES_INSTANCES
#include "kdlib/backend/instances.hpp"

KDLIB_INSTANCES()
