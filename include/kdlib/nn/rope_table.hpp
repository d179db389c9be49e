// SPDX-License-Identifier: Apache-2.0
// Frequencies and angle tables of rotary position embeddings (Su et al., 2021), with the scalings of models for long
// texts.
#ifndef KDLIB_NN_ROPE_TABLE_HPP
#define KDLIB_NN_ROPE_TABLE_HPP

#include <vector>

#include "kdlib/autograd/functions.hpp"

KDLIB_NAMESPACE_BEGIN

/// How rotary angles are scaled for longer texts.
enum class RopeScalingKind { none, linear, llama3, yarn };

/// The numbers of config.json's rope_parameters (or rope_scaling). Numbers that a kind does not use keep their
/// defaults.
struct RopeSettings {
  double theta = 10000;  // > 0
  RopeScalingKind kind = RopeScalingKind::none;
  double factor = 1;                     // >= 1: linear, llama3, yarn
  double low_frequency_factor = 1;       // llama3
  double high_frequency_factor = 4;      // llama3
  double original_length = 0;            // tokens: llama3, yarn
  double beta_fast = 32, beta_slow = 1;  // yarn
  bool truncate = true;                  // yarn: the bounds of the ramp become whole numbers
  double attention_factor = 0;           // yarn: factor of cosine and sine; 0: 0.1 ln(factor) + 1, or by mscale
  double mscale = 0, mscale_all = 0;     // yarn, DeepSeek's form; 0 = not given
  std::vector<double> divisors;          // [head_size / 2] divisors of the frequencies (GGUF rope_freqs), or empty
};

/// Returns the frequency, the angle for each position in radians, of each pair (x[j], x[j + head_size / 2]), j = 0 ..
/// head_size / 2 - 1.
std::vector<double> rope_frequencies(const RopeSettings& settings, std::int64_t head_size);
/// Returns the factor by which cosine and sine are multiplied (1 without yarn).
double rope_table_scale(const RopeSettings& settings);

/// Makes the tables [positions, head_size / 2] for positions 0 to positions - 1. They are formed in double and rounded
/// once.
template <class D, class T>
RopeTable<T, D> make_rope_table(const RopeSettings& settings, std::int64_t head_size, std::int64_t positions);

KDLIB_NAMESPACE_END

#include "kdlib/nn/rope_table_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/nn/rope_frequencies_inl.hpp"
#endif

#endif
