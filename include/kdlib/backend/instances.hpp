// SPDX-License-Identifier: Apache-2.0
// Declares common instantiations that the library kdlib::instances holds compiled. Linking kdlib::instances defines
// KDLIB_USES_INSTANCES; kdlib/backend/cpu.hpp then includes this header by itself, and a translation unit compiles in
// about half the time. Nothing else changes.
#ifndef KDLIB_BACKEND_INSTANCES_HPP
#define KDLIB_BACKEND_INSTANCES_HPP

#include "kdlib/backend/cpu/instances.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/rollout/generate.hpp"

/// The parts of the network.
#define KDLIB_INSTANCES_OF_MODEL(KDLIB_EXTERN, T)                      \
  KDLIB_EXTERN template class kdlib::SelfAttention<kdlib::Cpu, T>;     \
  KDLIB_EXTERN template class kdlib::GatedFeedForward<kdlib::Cpu, T>;  \
  KDLIB_EXTERN template class kdlib::ExpertFeedForward<kdlib::Cpu, T>; \
  KDLIB_EXTERN template class kdlib::Decoder<kdlib::Cpu, T>;

KDLIB_INSTANCES_OF_KERNELS(extern, float)
KDLIB_INSTANCES_OF_PACKED(extern, float)
KDLIB_INSTANCES_OF_MODEL(extern, float)
KDLIB_INSTANCES_OF_ROWS(extern, float)
KDLIB_INSTANCES_OF_WIDENED(extern, kdlib::bf16)
KDLIB_INSTANCES_OF_MODEL(extern, kdlib::bf16)

#endif
