// SPDX-License-Identifier: Apache-2.0
// Frequencies and angle tables of rotary position embeddings (Su et al., 2021), with the scalings of long-context
// models.
#ifndef KDLIB_NN_ROPE_TABLE_HPP
#define KDLIB_NN_ROPE_TABLE_HPP

#include <vector>

#include "kdlib/autograd/functions.hpp"

KDLIB_NAMESPACE_BEGIN

/// How rotary angles are stretched for longer texts.
enum class RopeScalingKind { none, linear, llama3, yarn };

/// Numbers of config.json's rope_parameters (or rope_scaling). Unused ones keep their defaults.
struct RopeSettings {
  double theta = 10000;  // > 0
  RopeScalingKind kind = RopeScalingKind::none;
  double factor = 1;                     // >= 1: linear, llama3, yarn
  double low_frequency_factor = 1;       // llama3
  double high_frequency_factor = 4;      // llama3
  double original_length = 0;            // tokens: llama3, yarn
  double beta_fast = 32, beta_slow = 1;  // yarn
  bool truncate = true;                  // yarn: whole numbers as ramp bounds
  double attention_factor = 0;           // yarn: multiplies cosine and sine; 0 = 0.1 ln(factor) + 1 (or by mscale)
  double mscale = 0, mscale_all = 0;     // yarn, DeepSeek's form; 0 = not given
  std::vector<double> divisors;          // [head_size / 2] or empty: frequencies are divided by these (GGUF rope_freqs)
};

/// Angle per position of each pair (x[j], x[j + head_size / 2]), j = 0 .. head_size / 2 - 1.
std::vector<double> rope_frequencies(const RopeSettings& settings, std::int64_t head_size);
/// What cosine and sine are multiplied by (1 without yarn).
double rope_table_scale(const RopeSettings& settings);

/// Tables for positions [0, positions), formed in double and rounded once.
template <class D, class T>
RopeTable<T, D> make_rope_table(const RopeSettings& settings, std::int64_t head_size, std::int64_t positions);

KDLIB_NAMESPACE_END

#include "kdlib/nn/rope_table_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/nn/rope_frequencies_inl.hpp"
#endif

#endif
