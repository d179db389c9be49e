// SPDX-License-Identifier: Apache-2.0
// The program `distil`: from two models and some prompts to an adapter, a table and a report. The library's parts do
// the work; this is the order in which they are asked, and what the user sees of it.
#ifndef KDLIB_TOOLS_DISTIL_HPP
#define KDLIB_TOOLS_DISTIL_HPP

#include "kdlib/checkpoint/packed_save.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/eval/agreement.hpp"
#include "kdlib/eval/perplexity.hpp"
#include "kdlib/kdlib.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/teacher/remembered.hpp"
#include "kdlib/teacher/vocabulary.hpp"
#include "kdlib/tools/distil_plan.hpp"
#include "kdlib/tools/distil_result.hpp"
#include "kdlib/tools/distil_text.hpp"
#include "kdlib/tools/model_folders.hpp"
#include "kdlib/tools/progress.hpp"
#include "kdlib/tools/stop_signals.hpp"

KDLIB_NAMESPACE_BEGIN

/// Throws what stops it; returns the exit status: 0 done (or planned), 130 / 143 stopped by SIGINT / SIGTERM with
/// everything saved.
template <class D, class T>
int run_distil(int argc, const char* const* argv);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_inl.hpp"

#endif
