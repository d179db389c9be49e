// SPDX-License-Identifier: Apache-2.0
// A teacher over a model that is gone at the end of the line.
// expect: deleted
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
Model& make();
Teacher teacher{make()};
#else
Model make();
Teacher teacher{make()};
#endif
