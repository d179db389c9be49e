// SPDX-License-Identifier: Apache-2.0
// The program `distil`: a command line around a Session. The session does the work; this file adds the command line,
// signals, the progress bar, the report and the exit status.
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

/// Runs the program. `Types` are the SessionTypes that the program offers. Errors are thrown. Returns the exit status:
/// 0 if the run is done (or only planned); 130 or 143 if SIGINT or SIGTERM stopped the run and everything is saved; 75
/// if the run stopped because memory ran short and everything is saved, or because another rank was lost (run_as_rank).
template <class... Types>
int run_distil(int argc, const char* const* argv);

/// Runs one session as a program does, with signals and a progress bar. Calls before(session) and session.run(); if the
/// run has finished, prints the table, writes report.html and calls after(session). Returns the exit status. With
/// several ranks only the first rank prints and keeps the folder of the run; the others use a scratch folder and are
/// silent. `status_file` is the path of --status-file; empty: none.
template <class D, class T, class Before, class After>
int run_session(RecipeSettings settings, const std::string& status_file, Before&& before, After&& after,
                const AnyCommunicator& ranks = {});

/// Prints what the run of a command line would need in memory and time.
template <class D, class T>
void print_plan(DistilCommand& command);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_inl.hpp"

#endif
