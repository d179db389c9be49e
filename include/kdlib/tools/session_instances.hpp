// SPDX-License-Identifier: Apache-2.0
// Sessions that this project's programs have compiled in translation units of their own (examples/sessions/): include
// this and link them, and a program compiles its command line alone. Nothing else changes.
#ifndef KDLIB_TOOLS_SESSION_INSTANCES_HPP
#define KDLIB_TOOLS_SESSION_INSTANCES_HPP

#include "kdlib/backend/cpu.hpp"
#include "kdlib/recipe/session.hpp"

/// Every combination, with `extern` before it here and nothing where it is defined.
#define KDLIB_SESSIONS(KDLIB_EXTERN) KDLIB_EXTERN template class kdlib::Session<kdlib::Cpu, float>;

#if !defined(KDLIB_DEFINES_SESSIONS)
KDLIB_SESSIONS(extern)
#endif

#endif
