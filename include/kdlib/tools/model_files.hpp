// SPDX-License-Identifier: Apache-2.0
// How programs keep the weights of a model, and how they start their threads.
#ifndef KDLIB_TOOLS_MODEL_FILES_HPP
#define KDLIB_TOOLS_MODEL_FILES_HPP

#include <string>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN

/// The meaning of --weights file|memory in programs that do not train. If an adapter is merged while reading
/// (`merges`), the matrices must be in memory.
inline WeightStorage weight_storage(const std::string& weights, bool merges) {
  return weights == "memory" || merges ? WeightStorage::decoded : WeightStorage::in_file;
}

/// Starts the threads of a program that runs models on the CPU; 0 uses all CPUs that the process may use. Each thread
/// gets the memory that its matrix products need. BackendError: this memory is not available.
inline void start_threads(int threads) {
  if (threads > 0) set_thread_count(threads);
  Kernels<Cpu, float>::take_buffers();
}

KDLIB_NAMESPACE_END

#endif
