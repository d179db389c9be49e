// SPDX-License-Identifier: Apache-2.0
// A program around one teacher and one student whose configurations are known: it plans without weights, runs from two
// directories, or makes both models from random weights at full or tiny scale and goes the whole way with them.
#ifndef KDLIB_TOOLS_DISTIL_PAIR_HPP
#define KDLIB_TOOLS_DISTIL_PAIR_HPP

#include <string>

#include "kdlib/tools/distil.hpp"
#include "kdlib/tools/known_configs.hpp"

KDLIB_NAMESPACE_BEGIN

/// What such a program is about. Flags: those of `distil`, --scale tiny|full, --random-weights.
struct DistilPair {
  std::string program, purpose;            // for --help
  std::string teacher_name, student_name;  // for messages
  DecoderConfig teacher, student;          // at full scale; tiny_config makes the other
  RecipeSettings defaults{};               // of the options
};

/// --dry-run: prints the plan from the configurations, whatever their size; on a device that counts (Memory<D>::DryRun)
/// with the bytes of the run's first steps. Else: ConfigError, with the numbers, before anything is loaded or written
/// where memory is too small; ConfigError where a given directory holds another model. Then the job of `distil`; at its
/// end the written adapter or student is read back and compared. Configurations and seeds of random models, from which
/// they are made in memory (save_random_model), and prompts of random ids stay in OUT/random. Exit status as
/// run_distil.
/// Types: the SessionType list that the program offers.
template <class... Types>
int run_distil_pair(int argc, const char* const* argv, const DistilPair& pair);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_pair_inl.hpp"

#endif
