// SPDX-License-Identifier: Apache-2.0
// The program `distil`: a command line around a Session. The session does the work; here are words, signals, the bar,
// the report and the exit status.
#ifndef KDLIB_TOOLS_DISTIL_HPP
#define KDLIB_TOOLS_DISTIL_HPP

#include "kdlib/recipe/session.hpp"
#include "kdlib/tools/distil_console.hpp"
#include "kdlib/tools/distil_options.hpp"
#include "kdlib/tools/distil_report.hpp"
#include "kdlib/tools/process_start.hpp"
#include "kdlib/tools/ranked_process.hpp"
#include "kdlib/tools/session_types.hpp"
#include "kdlib/tools/status_file.hpp"
#include "kdlib/tools/stop_signals.hpp"

KDLIB_NAMESPACE_BEGIN

/// Types: the SessionType list that the program offers. Throws what stops it; returns the exit status: 0 done (or
/// planned), 130 / 143 stopped by SIGINT / SIGTERM with everything saved, 75 stopped with everything saved because
/// memory ran short, or another rank was lost (run_as_rank).
template <class... Types>
int run_distil(int argc, const char* const* argv);

/// Runs one session as a program does, with signals and the bar: before(session), run(), then the table, report.html
/// and after(session) when it has finished. Answers the exit status. Of several ranks the first one prints and keeps
/// the folder; the others have a scratch folder and are silent. `status_file`: of --status-file, empty: none.
template <class D, class T, class Before, class After>
int run_session(RecipeSettings settings, const std::string& status_file, Before&& before, After&& after,
                const AnyCommunicator& ranks = {});

/// Prints what the run of a command line would need.
template <class D, class T>
void print_plan(DistilCommand& command);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_inl.hpp"

#endif
