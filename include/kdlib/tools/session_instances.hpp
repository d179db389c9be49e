// SPDX-License-Identifier: Apache-2.0
// Sessions that this project's programs have compiled in translation units of their own (examples/sessions/): include
// this and link them, and a program compiles its command line alone. Nothing else changes.
#ifndef KDLIB_TOOLS_SESSION_INSTANCES_HPP
#define KDLIB_TOOLS_SESSION_INSTANCES_HPP

#include "kdlib/backend/cpu.hpp"
#include "kdlib/backend/cpu/instances.hpp"
#if defined(KDLIB_PROGRAMS_CUDA)
#include "kdlib/tools/cuda_instances.hpp"
#endif
#include "kdlib/recipe/session.hpp"
#include "kdlib/tools/task_evaluation.hpp"

// Each list stands here with `extern` as its argument and is defined with none.

/// The session of one device and scalar type, and its answers to tasks.
#define KDLIB_SESSION_OF(KDLIB_EXTERN, D, T)                                                           \
  KDLIB_EXTERN template class kdlib::Session<D, T>;                                                    \
  KDLIB_EXTERN template std::vector<std::pair<std::string, double>> kdlib::TaskEvaluation::operator()( \
      kdlib::Decoder<D, T>&) const;

/// The loss rows of sessions on the host: logits are of float there, whatever the model's scalar type is.
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
