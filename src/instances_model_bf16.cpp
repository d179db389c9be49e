// SPDX-License-Identifier: Apache-2.0
// Definitions of one list of kdlib/backend/instances.hpp, compiled in the project that links
// kdlib::instances, with its flags.
#include "kdlib/backend/instances.hpp"

KDLIB_INSTANCES_OF_MODEL(, kdlib::bf16)
