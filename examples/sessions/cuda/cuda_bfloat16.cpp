// SPDX-License-Identifier: Apache-2.0
// The network and the session that programs run with --device cuda --dtype bfloat16: compiled once for all of them.
#define KDLIB_DEFINES_SESSIONS
#include "kdlib/tools/session_instances.hpp"

KDLIB_CUDA_MODEL_OF(, kdlib::bf16)
KDLIB_SESSION_OF(, kdlib::Cuda, kdlib::bf16)
