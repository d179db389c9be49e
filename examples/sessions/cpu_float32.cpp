// SPDX-License-Identifier: Apache-2.0
// The session that programs run with --device cpu --dtype float32, and the loss rows that all sessions on the host
// share: compiled once for all of them.
#define KDLIB_DEFINES_SESSIONS
#include "kdlib/tools/session_instances.hpp"

KDLIB_SESSION_ROWS()
KDLIB_SESSION_OF(, kdlib::Cpu, float)
