// SPDX-License-Identifier: Apache-2.0
// Session<Cpu, float> for tests: the programs' own object where it is linked, else compiled in the test.
#ifndef KDLIB_TESTS_SUPPORT_SESSIONS_HPP
#define KDLIB_TESTS_SUPPORT_SESSIONS_HPP

#if defined(KDLIB_LINKS_SESSIONS)
#include "kdlib/tools/session_instances.hpp"
#else
#include "kdlib/backend/cpu.hpp"
#include "kdlib/recipe/session.hpp"
#endif

#endif
