// SPDX-License-Identifier: Apache-2.0
// A model with its tokenizer as one GGUF file, as llama.cpp reads it.
#ifndef KDLIB_CHECKPOINT_GGUF_SAVE_HPP
#define KDLIB_CHECKPOINT_GGUF_SAVE_HPP

#include <string>
#include <vector>

#include "kdlib/io/gguf_types.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// How save_gguf writes.
struct GgufSaveSettings {
  /// Of matrices: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1, or MXFP4 for the experts of a mixture with BF16 for the rest.
  /// Vectors, norms, biases, routers and sinks are F32 always; a matrix whose rows do not divide into blocks is F16.
  GgufType type = GgufType::f16;
  std::string name{};  // general.name; empty: left out
};

/// ConfigError, naming the setting, where other readers of the format would compute something else without saying so:
/// windows of Qwen2, norm_topk_prob other than the architecture's, a clamp other than gpt-oss's, scalings of
/// frequencies that have no key.
void check_gguf_config(const DecoderConfig& config);

/// Writes `path`; nullptr: without a tokenizer (tokenizer.ggml.model "none"). Values are rounded once, from the model's
/// own (quant/gguf_encode.hpp). Answers notes: what the format has no place for, matrices that are F16 instead. The
/// file appears complete or not at all. ConfigError: an adapter that is not merged, a type that is not written,
/// check_gguf_config().
template <class D, class T>
std::vector<std::string> save_gguf(const Decoder<D, T>& model, const Tokenizer* tokenizer, const std::string& path,
                                   const GgufSaveSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/gguf_save_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/gguf_metadata_inl.hpp"
#endif

#endif
