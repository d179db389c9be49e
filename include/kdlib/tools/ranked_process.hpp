// SPDX-License-Identifier: Apache-2.0
// A program as one of several ranks that mpirun or srun started together.
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

/// Exit status of a run that another rank left (EX_TEMPFAIL): the same command goes on from the last checkpoint.
inline constexpr int lost_rank_status = 75;

/// How many processes mpirun (Open MPI, MPICH) or srun started together with this one, by the environment; 1: alone.
int launched_ranks();

/// What ranks need and one process leaves open is chosen: the tree, and how many texts stand side by side.
void settle_ranks(RecipeTraining& training, int ranks);

/// A folder of one rank for what a session keeps beside the run's files; removed with it.
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

/// Calls body(communicator) as what this process is: alone, or a rank of an MPI job. In a job nothing that is thrown
/// passes MPI's end: it is reported and all ranks are ended. ConfigError where the program was started as a rank and
/// has no MPI.
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
