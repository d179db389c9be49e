// SPDX-License-Identifier: Apache-2.0
// The session that programs run with --device cpu --dtype bfloat16: compiled once for all of them.
#define KDLIB_DEFINES_SESSIONS
#include "kdlib/tools/session_instances.hpp"

KDLIB_SESSION_ROWS(extern)
KDLIB_SESSION_OF(, kdlib::Cpu, kdlib::bf16)
