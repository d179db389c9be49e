// SPDX-License-Identifier: Apache-2.0
// The forward declarations agree with the definitions: kind, template parameters, namespace.
#include "kdlib/fwd.hpp"

#include "kdlib/kdlib.hpp"

int kdlib_fwd_agrees() { return 0; }
