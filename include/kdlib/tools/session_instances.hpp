// SPDX-License-Identifier: Apache-2.0
// The sessions that are compiled in separate translation units (examples/sessions/). A program that includes this
// header and links these units compiles only its command line. Nothing else changes.
#ifndef KDLIB_TOOLS_SESSION_INSTANCES_HPP
#define KDLIB_TOOLS_SESSION_INSTANCES_HPP

#include "kdlib/backend/cpu.hpp"
#include "kdlib/backend/cpu/instances.hpp"
#if defined(KDLIB_PROGRAMS_CUDA)
#include "kdlib/tools/cuda_instances.hpp"
#endif
#include "kdlib/recipe/session.hpp"
#include "kdlib/tools/task_evaluation.hpp"

// This header uses each list with the argument `extern`; the translation units use it with an empty argument.

/// The session for one device and scalar type, and the scoring of tasks with its model.
#define KDLIB_SESSION_OF(KDLIB_EXTERN, D, T)                                                           \
  KDLIB_EXTERN template class kdlib::Session<D, T>;                                                    \
  KDLIB_EXTERN template std::vector<std::pair<std::string, double>> kdlib::TaskEvaluation::operator()( \
      kdlib::Decoder<D, T>&) const;

/// The row losses of sessions on the host, where logits are of float whatever the scalar type of the model is.
#define KDLIB_SESSION_ROWS(KDLIB_EXTERN)                                         \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, float, AnySum<kdlib::LossNeeds::labels>) \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, float, AnySum<kdlib::LossNeeds::top_k>)  \
  KDLIB_INSTANCES_OF_LOSS(KDLIB_EXTERN, float, AnySum<kdlib::LossNeeds::vocabulary>)

#if !defined(KDLIB_DEFINES_SESSIONS)
KDLIB_SESSION_ROWS(extern)
KDLIB_SESSION_OF(extern, kdlib::Cpu, float)
KDLIB_SESSION_OF(extern, kdlib::Cpu, kdlib::bf16)
#if defined(KDLIB_PROGRAMS_CUDA)
KDLIB_SESSION_OF(extern, kdlib::Cuda, float)
KDLIB_SESSION_OF(extern, kdlib::Cuda, kdlib::bf16)
#endif
#endif

#endif
