// SPDX-License-Identifier: Apache-2.0
// Configurations of large models that programs plan with and build from random weights: as published, or chosen where
// it says so.
#ifndef KDLIB_TOOLS_KNOWN_CONFIGS_HPP
#define KDLIB_TOOLS_KNOWN_CONFIGS_HPP

#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Qwen2.5-32B-Instruct: 64 layers, 5120 wide, 32.8 B parameters.
DecoderConfig qwen2_5_32b_config();
/// Qwen2.5-7B-Instruct: 28 layers, 3584 wide, 7.6 B parameters.
DecoderConfig qwen2_5_7b_config();
/// gpt-oss-20b: 24 layers, 32 experts of which 4 are active, 20.9 B parameters, 3.6 B met by a token.
DecoderConfig gpt_oss_20b_config();
/// gpt-oss-120b: the same with 36 layers and 128 experts, 116.8 B parameters.
DecoderConfig gpt_oss_120b_config();

/// The vpMoE layout: 80 layers, 256 experts of which 4 are active, one shared expert, vocabulary 201088. Only these
/// numbers are given; the CHOSEN ones are: hidden 1024, 8 query and 2 key/value heads of 128, experts 128 wide, the
/// shared expert 512 wide behind a sigmoid gate, gated SiLU, softmax routing over the chosen, no attention biases, rope
/// base 1e6. Written as qwen2_moe, whose tensors it has.
DecoderConfig vpmoe_config();

/// The same structure in small: 3 layers, 64 wide, the ratio of heads kept, at most 16 experts, 320 ids; weights wide
/// enough to differ.
DecoderConfig tiny_config(const DecoderConfig& config);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/known_configs_inl.hpp"
#endif

#endif
