// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_options.hpp: the options of a run that several processes share.
#ifndef KDLIB_TOOLS_DISTIL_RANKS_INL_HPP
#define KDLIB_TOOLS_DISTIL_RANKS_INL_HPP

#include "kdlib/tools/distil_options.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC void DistilCommand::add_ranks() {
  RecipeTraining& s = settings_.training;
  options_.group("Ranks")
      .add("reduce", reduce_, "HOW",
           "how the gradients of a step's micro-batches are added: tree gives equal bits for every number of ranks, "
           "fast adds in place; auto: tree with several ranks (docs/scale.md)")
      .choices({"auto", "tree", "fast"})
      .add("write-batch", s.write_batch, "N",
           "texts written side by side by one rank, the step's prompts cut into groups of N; 0: 16 with --reduce tree, "
           "else those of a micro-batch")
      .at_least(0)
      .add("comm-timeout", comm_timeout_, "N", "how long a rank waits for another before the run is given up",
           "seconds")
      .at_least(1);
}

KDLIB_NAMESPACE_END

#endif
