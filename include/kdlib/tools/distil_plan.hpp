// SPDX-License-Identifier: Apache-2.0
// What a run of `distil` will need, before it starts: memory by part, operations and time of a step.
#ifndef KDLIB_TOOLS_DISTIL_PLAN_HPP
#define KDLIB_TOOLS_DISTIL_PLAN_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/model/decoder_config.hpp"
#include "kdlib/tools/distil_settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Rates of this machine, measured in under a second: products of many rows, and products of a decoding batch against the head.
struct MachineRates {
  double gemm_flops = 0;      // per second, [1024, H] x [H, I]
  double decoding_flops = 0;  // per second, [batch, H] x [H, V], the weights streamed from memory
};

template <class D, class T>
MachineRates measure_rates(const DecoderConfig& config, std::int64_t decoding_batch);

struct DistilPlan {
  std::vector<std::pair<std::string, double>> memory;  // part, bytes
  double trained_parameters = 0;
  double step_flops = 0, step_tokens = 0, counted_tokens = 0;
  double step_seconds = 0, writing_seconds = 0;        // of training; of writing the text of one step
  double total_seconds = 0;

  double memory_bytes() const;
  std::string text() const;
};

/// The prediction for these settings; `prompt_tokens` is the mean length of a rendered prompt, `scalar_bytes` the size of the compute type.
DistilPlan plan_distil(const DistilSettings& settings, const DecoderConfig& teacher, const DecoderConfig& student, bool shared_weights, double prompt_tokens,
                       double scalar_bytes, const MachineRates& rates);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_plan_inl.hpp"

#endif
