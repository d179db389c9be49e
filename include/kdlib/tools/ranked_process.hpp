// SPDX-License-Identifier: Apache-2.0
// A program as one of several ranks that mpirun or srun started together.
#ifndef KDLIB_TOOLS_RANKED_PROCESS_HPP
#define KDLIB_TOOLS_RANKED_PROCESS_HPP

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kdlib/core/communicator.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/tools/report.hpp"
#if defined(KDLIB_WITH_MPI)
#include "kdlib/mpi.hpp"
#endif

KDLIB_NAMESPACE_BEGIN

/// Exit status of a run that another rank left (EX_TEMPFAIL): the same command goes on from the last checkpoint.
inline constexpr int lost_rank_status = 75;

/// How many processes mpirun (Open MPI, MPICH) or srun started together with this one, by the environment; 1: alone.
inline int launched_ranks() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (const char* text = std::getenv(name)) return std::max(1, std::atoi(text));
  if (std::getenv("PMIX_RANK") != nullptr)
    if (const char* text = std::getenv("SLURM_NTASKS")) return std::max(1, std::atoi(text));
  return 1;
}

/// What ranks need and one process leaves open is chosen: the tree, and how many texts stand side by side.
inline void settle_ranks(RecipeTraining& training, int ranks) {
  if (training.reduce == Reduction::automatic && ranks > 1) training.reduce = Reduction::tree;
  if (training.reduce == Reduction::tree && training.write_batch == 0) training.write_batch = 16;
}

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

inline ScratchFolder::ScratchFolder() {
  const char* base = std::getenv("TMPDIR");
  path_ = join_path(base != nullptr && *base != '\0' ? base : "/tmp", "kdlib-rank-XXXXXX");
  require<IoError>(::mkdtemp(path_.data()) != nullptr, "[ranks] cannot make ", path_, "; set TMPDIR to a folder that ",
                   "this rank may write to");
}

inline ScratchFolder::~ScratchFolder() {
  try {
    remove_tree(path_);
  } catch (const Error&) {
    // nothing there is needed
  }
}

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

#endif
