// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_options.hpp: the options of a run that several processes share.
#ifndef KDLIB_TOOLS_DISTIL_RANKS_INL_HPP
#define KDLIB_TOOLS_DISTIL_RANKS_INL_HPP

#include <cstdio>

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
      .add("shard-optimizer", s.shard_optimizer,
           "each rank keeps the moments of its part of the parameters alone (ZeRO-1): the same bits, less memory")
      .add("comm-timeout", comm_timeout_, "N", "how long a rank waits for another before the run is given up",
           "seconds")
      .at_least(1)
      .add("ranks", scale_.ranks, "W", "--dry-run: plan for W ranks (scripts/launch/ranks starts them)")
      .at_least(1)
      .at_most(1 << 20)
      .add("teacher-ranks", scale_.teachers, "N",
           "the last N ranks only hold the teacher and mark the text of the others; 0: each rank has it")
      .at_least(0)
      .at_most(1 << 20)
      .add("link", scale_.link, "RATE",
           "--dry-run: the network between ranks, each a machine as the plan's: 100Mbit, 10Gbit, 1GB (a second); "
           "default: they share this machine")
      .add("latency", scale_.latency, "TIME", "--dry-run: of a message on that network, such as 30ms");
}

KDLIB_TOOLS_FUNC void DistilCommand::print(const RecipePlan& plan) const {
  std::string ranks;
  if (scale_.asked()) {
    const ScaleInputs in = scale_inputs(plan, settings_, scale_);
    ranks = json_ ? scale_json(plan, in) : scale_text(plan, in, scale_);
  }
  if (json_) std::printf("%s\n", plan.json(ranks).c_str());
  else std::printf("%s%s", plan.text().c_str(), ranks.c_str());
}

KDLIB_NAMESPACE_END

#endif
