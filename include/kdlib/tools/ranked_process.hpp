// SPDX-License-Identifier: Apache-2.0
// Runs a program as one of several ranks, that is, of several processes that mpirun or srun started together.
#ifndef KDLIB_TOOLS_RANKED_PROCESS_HPP
#define KDLIB_TOOLS_RANKED_PROCESS_HPP

#include <cstdio>
#include <string>

#include "kdlib/core/communicator.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/tools/report.hpp"
#if defined(KDLIB_WITH_MPI)
#include "kdlib/mpi.hpp"
#endif

KDLIB_NAMESPACE_BEGIN

/// Exit status of a run that lost another rank (EX_TEMPFAIL). The same command continues from the last checkpoint.
inline constexpr int lost_rank_status = 75;

/// Returns the number of processes that mpirun (Open MPI, MPICH) or srun started together, this one included, as the
/// environment tells; 1 if the process was started alone.
int launched_ranks();

/// Chooses settings that several ranks need and a single process leaves open: the reduction in a tree, and the number
/// of texts that are written side by side.
void settle_ranks(RecipeTraining& training, int ranks);

/// A temporary folder of one rank for the files that a session writes. The folder is removed with the object.
class ScratchFolder {
 public:
  ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Calls body(communicator), with a communicator of all ranks if this process is a rank of an MPI job, and with a
/// single rank otherwise. Returns the exit status. In a job an exception does not leave the function: it is reported,
/// and all ranks are ended. ConfigError: the program was started as a rank but was built without MPI.
template <class Body>
int run_as_rank(double timeout_seconds, Body&& body) {
  const int launched = launched_ranks();
  if (launched == 1) return body(AnyCommunicator{});
#if defined(KDLIB_WITH_MPI)
  AnyCommunicator ranks(MpiCommunicator::world(timeout_seconds));
  int status = 1;
  try {
    require<ConfigError>(ranks.size() == launched, "[ranks] the environment says that ", launched,
                         " processes were started together and MPI knows ", ranks.size(),
                         ": mpirun or srun is of another MPI than this program was built with");
    status = body(ranks);
  } catch (const RankError& error) {
    report(error);
    std::fflush(nullptr);
    ranks.abort(lost_rank_status);
  } catch (const std::exception& error) {
    status = report(error);
    std::fflush(nullptr);
    ranks.abort(status);
  }
  std::fflush(nullptr);
  MpiCommunicator::finish();
  return status;
#else
  static_cast<void>(timeout_seconds);
  fail<ConfigError>("[ranks] this program was started as one of ", launched,
                    " processes and is built without MPI: install libopenmpi-dev (Debian, Ubuntu) or another MPI and "
                    "configure with -DKDLIB_MPI=ON, or start it alone");
#endif
}

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/ranked_process_inl.hpp"
#endif

#endif
