// SPDX-License-Identifier: Apache-2.0
#include "support/instances.hpp"

KDLIB_INSTANCES_OF_KERNELS(, double)
