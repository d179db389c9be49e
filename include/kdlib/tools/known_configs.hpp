// SPDX-License-Identifier: Apache-2.0
// Configurations of large models, with which programs plan and make models of random weights. The numbers are the
// published ones, except those that are marked as chosen.
#ifndef KDLIB_TOOLS_KNOWN_CONFIGS_HPP
#define KDLIB_TOOLS_KNOWN_CONFIGS_HPP

#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Qwen2.5-32B-Instruct: 64 layers, 5120 wide, 32.8 B parameters.
DecoderConfig qwen2_5_32b_config();
/// Qwen2.5-7B-Instruct: 28 layers, 3584 wide, 7.6 B parameters.
DecoderConfig qwen2_5_7b_config();
/// gpt-oss-20b: 24 layers, 32 experts of which 4 are active, 20.9 B parameters, of which a token uses 3.6 B.
DecoderConfig gpt_oss_20b_config();
/// gpt-oss-120b: as gpt-oss-20b with 36 layers and 128 experts, 116.8 B parameters.
DecoderConfig gpt_oss_120b_config();

/// The vpMoE layout: 80 layers, 256 experts of which 4 are active, one shared expert, vocabulary 201088. Only these
/// numbers are given. The CHOSEN values are: hidden size 1024, 8 query heads and 2 key/value heads of size 128, experts
/// 128 wide, the shared expert 512 wide behind a sigmoid gate, gated SiLU, softmax routing over the chosen experts, no
/// attention biases, rope base 1e6. The model is written as qwen2_moe, because it has the tensors of this family.
DecoderConfig vpmoe_config();

/// Returns the same structure at a tiny scale: 3 layers, 64 wide, the same ratio of heads, at most 16 experts, 320 ids.
/// initializer_range is 0.2, so that random weights give outputs that differ.
DecoderConfig tiny_config(const DecoderConfig& config);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/known_configs_inl.hpp"
#endif

#endif
