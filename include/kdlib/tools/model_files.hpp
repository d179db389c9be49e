// SPDX-License-Identifier: Apache-2.0
// What programs read beside the weights of MODEL, and how they keep the weights.
#ifndef KDLIB_TOOLS_MODEL_FILES_HPP
#define KDLIB_TOOLS_MODEL_FILES_HPP

#include <string>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN

/// --weights file|memory of programs that train nothing; an adapter that is merged on reading needs matrices in memory.
inline WeightStorage weight_storage(const std::string& weights, bool merges) {
  return weights == "memory" || merges ? WeightStorage::decoded : WeightStorage::in_file;
}

/// Threads of a program that runs models on the CPU (0: all that the process may use), each with the memory that its
/// matrix products need: BackendError where that cannot be had.
inline void start_threads(int threads) {
  if (threads > 0) set_thread_count(threads);
  Kernels<Cpu, float>::take_buffers();
}

KDLIB_NAMESPACE_END

#endif
