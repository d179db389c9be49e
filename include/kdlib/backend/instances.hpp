// SPDX-License-Identifier: Apache-2.0
// Common instantiations that kdlib::instances holds compiled: include this after (or instead of) kdlib/backend/cpu.hpp
// and link kdlib::instances, and the translation unit compiles in about half the time. Nothing else changes.
#ifndef KDLIB_BACKEND_INSTANCES_HPP
#define KDLIB_BACKEND_INSTANCES_HPP

#include "kdlib/backend/cpu.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/quantize.hpp"
#include "kdlib/rollout/generate.hpp"

/// Every instantiation, with `extern` before it here and nothing in src/instances.cpp.
#define KDLIB_INSTANCES(KDLIB_EXTERN)                                      \
  KDLIB_EXTERN template struct kdlib::detail::CpuGemm<float>;              \
  KDLIB_EXTERN template struct kdlib::detail::CpuElementwise<float>;       \
  KDLIB_EXTERN template struct kdlib::detail::CpuAttention<float>;         \
  KDLIB_EXTERN template struct kdlib::detail::CpuExperts<float>;           \
  KDLIB_EXTERN template struct kdlib::detail::CpuPacked<float>;            \
  KDLIB_EXTERN template class kdlib::SelfAttention<kdlib::Cpu, float>;     \
  KDLIB_EXTERN template class kdlib::GatedFeedForward<kdlib::Cpu, float>;  \
  KDLIB_EXTERN template class kdlib::ExpertFeedForward<kdlib::Cpu, float>; \
  KDLIB_EXTERN template class kdlib::Decoder<kdlib::Cpu, float>;

#if !defined(KDLIB_DEFINES_INSTANCES)
KDLIB_INSTANCES(extern)
#endif

#endif
