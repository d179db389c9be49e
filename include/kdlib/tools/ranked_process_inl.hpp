// SPDX-License-Identifier: Apache-2.0
// Bodies of ranked_process.hpp.
#ifndef KDLIB_TOOLS_RANKED_PROCESS_INL_HPP
#define KDLIB_TOOLS_RANKED_PROCESS_INL_HPP

#include <algorithm>
#include <cstdlib>

#include "kdlib/io/paths.hpp"
#include "kdlib/tools/ranked_process.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC int launched_ranks() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (const char* text = std::getenv(name)) return std::max(1, std::atoi(text));
  if (std::getenv("PMIX_RANK") != nullptr)
    if (const char* text = std::getenv("SLURM_NTASKS")) return std::max(1, std::atoi(text));
  return 1;
}

KDLIB_TOOLS_FUNC void settle_ranks(RecipeTraining& training, int ranks) {
  if (training.reduce == Reduction::automatic && ranks > 1) training.reduce = Reduction::tree;
  if (training.reduce == Reduction::tree && training.write_batch == 0) training.write_batch = 16;
}

KDLIB_TOOLS_FUNC ScratchFolder::ScratchFolder() {
  const char* base = std::getenv("TMPDIR");
  path_ = join_path(base != nullptr && *base != '\0' ? base : "/tmp", "kdlib-rank-XXXXXX");
  require<IoError>(::mkdtemp(path_.data()) != nullptr, "[ranks] cannot make ", path_, "; set TMPDIR to a folder that ",
                   "this rank may write to");
}

KDLIB_TOOLS_FUNC ScratchFolder::~ScratchFolder() {
  try {
    remove_tree(path_);
  } catch (const Error&) {
    // nothing there is needed
  }
}

KDLIB_NAMESPACE_END

#endif
