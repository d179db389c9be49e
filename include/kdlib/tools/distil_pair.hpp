// SPDX-License-Identifier: Apache-2.0
// A program for one teacher and one student whose configurations are known. The program plans without weights, runs
// with models from two directories, or makes both models from random weights at full or tiny scale and runs with these.
#ifndef KDLIB_TOOLS_DISTIL_PAIR_HPP
#define KDLIB_TOOLS_DISTIL_PAIR_HPP

#include <string>

#include "kdlib/tools/distil.hpp"
#include "kdlib/tools/known_configs.hpp"

KDLIB_NAMESPACE_BEGIN

/// The description of such a program. Its flags are those of `distil`, --scale tiny|full and --random-weights.
struct DistilPair {
  std::string program, purpose;            // for --help
  std::string teacher_name, student_name;  // for messages
  DecoderConfig teacher, student;          // at full scale; tiny_config() makes the tiny scale
  RecipeSettings defaults{};               // defaults of the options
};

/// Runs the program. With --dry-run it prints the plan from the configurations, whatever their size; on a device that
/// counts memory (Memory<D>::DryRun) the plan has the bytes of the run's first steps. Otherwise it does the work of
/// `distil`, then reads the written adapter or student back and compares it with the student in memory. ConfigError,
/// before anything is loaded or written: memory is too small (the message has the numbers), or a given directory holds
/// another model. OUT/random keeps the configurations and seeds of random models, from which the models are made in
/// memory (save_random_model), and prompts of random ids. Returns the exit status as run_distil does.
/// `Types` are the SessionTypes that the program offers.
template <class... Types>
int run_distil_pair(int argc, const char* const* argv, const DistilPair& pair);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_pair_inl.hpp"

#endif
